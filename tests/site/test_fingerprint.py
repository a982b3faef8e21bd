"""Fingerprints of model directories change with any change that matters, and with nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedrlvr.settings_file import SettingsError
from fedrlvr.site.fingerprint import model_fingerprint, weights_fingerprint

EMPTY = b"\x02" + bytes(7) + b"{}"  # a safetensors file without tensors


@pytest.fixture
def fingerprinted(model_path, tmp_path):
    """A copy of the model that can be edited: edited(name, edit) -> the fingerprint afterwards."""
    model = shutil.copytree(model_path, tmp_path / "model")

    def edited(name: str, edit, fingerprint=weights_fingerprint) -> str:
        content = (model / name).read_bytes() if (model / name).exists() else b""
        (model / name).write_bytes(edit(content))
        return fingerprint(model)

    return edited


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_equal_directories_have_equal_fingerprints_and_any_change_shows(model_path, tmp_path, fingerprinted):
    before = weights_fingerprint(model_path)
    assert weights_fingerprint(shutil.copytree(model_path, tmp_path / "elsewhere")) == before
    middle = _middle_of_a_tensor(model_path / "model.safetensors")
    seen = [
        before,
        fingerprinted("model.safetensors", lambda content: flipped(content, middle)),
        fingerprinted("model.safetensors", lambda content: content + b"\0"),
        fingerprinted("tokenizer.json", lambda content: content + b" "),
        fingerprinted("config.json", lambda content: json.dumps(json.loads(content) | {"rms_norm_eps": 1}).encode()),
        fingerprinted("chat_template.jinja", lambda content: b"{{ messages[0]['content'] }}"),
        fingerprinted("chat_template.jinja", lambda content: b"{{ messages[0]['content'] }}!"),
        fingerprinted("another.safetensors", lambda content: EMPTY),
    ]
    assert len(set(seen)) == len(seen)
    fingerprinted("README.md", lambda content: b"about")
    assert fingerprinted("another.safetensors", lambda content: EMPTY) == seen[-1]


def _middle_of_a_tensor(weights: Path) -> int:
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + length])["model.embed_tokens.weight"]["data_offsets"]
    return 8 + length + (begin + end) // 2


def test_one_changed_weight_in_the_middle_of_a_large_file_shows(tmp_path):
    """12 MB, of which 4 kB are read."""
    weights = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(3 << 20)}, weights)
    before = weights_fingerprint(tmp_path)
    weights.write_bytes(flipped(weights.read_bytes(), 3 << 21))
    assert weights_fingerprint(tmp_path) != before


def test_a_base_model_is_known_by_what_decides_its_behaviour(model_path, tmp_path, fingerprinted):
    before = model_fingerprint(model_path)
    assert len(before) == 16
    assert int(before, 16) >= 0
    assert model_fingerprint(shutil.copytree(model_path, tmp_path / "elsewhere")) == before
    for name in ("README.md", "generation_config.json", "training.log"):
        assert fingerprinted(name, lambda content: content + b"{}", model_fingerprint) == before
    seen = [
        before,
        fingerprinted("model.safetensors", lambda content: content + b"\0", model_fingerprint),
        fingerprinted("tokenizer.json", lambda content: content + b" ", model_fingerprint),
        fingerprinted("config.json", lambda content: content + b" ", model_fingerprint),
        fingerprinted("model.safetensors.index.json", lambda content: b"{}", model_fingerprint),
    ]
    assert len(set(seen)) == len(seen)


def test_a_single_tensor_that_was_trained_shows(model_path, tmp_path):
    """As a fine-tuned model would differ: same names, same shapes, same size."""
    model = shutil.copytree(model_path, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    seen = {model_fingerprint(model)}
    for name in list(tensors):
        save_file(tensors | {name: tensors[name] + torch.tensor(1e-3)}, model / "model.safetensors", {"format": "pt"})
        seen.add(model_fingerprint(model))
    assert len(seen) == 1 + len(tensors)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b'{"a": {}}'])
def test_a_file_that_is_not_safetensors_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(SettingsError, match=r"model.safetensors: not a safetensors file"):
        model_fingerprint(tmp_path)


def test_looking_at_a_model_loads_no_torch():
    code = "import sys, fedrlvr.site.fingerprint; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
