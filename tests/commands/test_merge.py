"""`fedrlvr merge` as it is called: the merged directory is a plain model that computes what model and adapter do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedrlvr.cli import main
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import load_policy
from fedrlvr.peft_folder import ORIGIN, Origin
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

LORA = LoraSettings(r=4, alpha=12, target_modules="all-linear")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model with a chat template, and what else may lie beside one."""
    folder, task = tmp_path_factory.mktemp("models"), TASKS["protocol"]
    settings = BaseModelSettings(architecture="llama", chat="llama3", steps=0, num_layers=1, hidden_size=32)
    path = base_model(task, task, settings, folder)
    (path / "LICENSE.txt").write_text("terms")
    (path / "README.md").write_text("the base model's card")
    (path / "modeling_own.py").write_text("raise SystemExit")
    return path


@pytest.fixture
def adapter(model, tmp_path) -> Path:
    return adapter_of(model, tmp_path / "adapter")


def adapter_of(model: Path, folder: Path) -> Path:
    policy = load_policy(LocalModel(model_path=model), LORA, PromptSettings(), torch.device("cpu"))
    factors, random = {}, torch.Generator().manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if parameter.requires_grad:
            factors[name.replace(".default", "")] = torch.randn(parameter.shape, generator=random) * 0.1
    origin = Origin(base_model="Org/Model", fingerprint=model_fingerprint(model))
    write_adapter(folder, dict(sorted(factors.items())), LORA, origin)
    return folder


def merged(model: Path, adapter: Path, out: Path, *flags: str) -> int:
    return main(["merge", "--model", str(model), "--adapter", str(adapter), "--out", str(out), *flags])


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 15)[None]).logits.float()


def test_the_merged_model_computes_what_model_and_adapter_do(model, adapter, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert merged(model, adapter, tmp_path / "out") == 0
    assert f"into 7 layers of {model}: {tmp_path / 'out'}" in capsys.readouterr().out
    base = AutoModelForCausalLM.from_pretrained(model)
    plain = logits(base)
    expected = logits(PeftModel.from_pretrained(base, adapter))
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(found), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_tokenizer_template_generation_settings_and_terms_come_along_and_no_code(model, adapter, tmp_path):
    assert merged(model, adapter, tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in model.iterdir()} - {"README.md", "modeling_own.py"}
    for name in names - {"config.json", "model.safetensors"}:
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (model, tmp_path / "out")]
    assert configs[0] == configs[1]
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (model, tmp_path / "out")]
    turns = [{"role": "user", "content": "7?"}]
    first, second = (tokenizer.apply_chat_template(turns, tokenize=False) for tokenizer in tokenizers)
    assert first == second


def test_the_number_type_is_kept_and_what_has_no_factors_is_as_it_was(model, tmp_path):
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, tmp_path / "half")
    assert merged(tmp_path / "half", adapter_of(tmp_path / "half", tmp_path / "adapter"), tmp_path / "out") == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "half", tmp_path / "out"))
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert set(before) == set(after)
    changed = {name.split(".")[-2] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def refusal(capsys, out: Path, *arguments) -> str:
    assert merged(*arguments[:2], out, *arguments[2:]) == 2
    assert not out.exists()
    assert list(out.parent.glob(".*tmp")) == []
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_adapter_of_another_model_is_refused_unless_it_is_forced(model, adapter, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    said = refusal(capsys, tmp_path / "out", other, adapter)
    one, two = model_fingerprint(model), model_fingerprint(other)
    assert f"was trained on Org/Model with fingerprint {one}, but {other} has {two}; choose that model" in said
    assert merged(other, adapter, tmp_path / "out", "--force") == 0
    assert "warning: " in capsys.readouterr().err
    (adapter / ORIGIN).unlink()  # an adapter from elsewhere names no fingerprint
    assert merged(other, adapter, tmp_path / "again") == 0
    assert capsys.readouterr().err == ""


def test_what_cannot_be_merged_is_refused_by_name(model, adapter, tmp_path, capsys):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert f"{empty}: no adapter_model.safetensors" in refusal(capsys, out, model, empty)
    assert f"no config.json in {empty}" in refusal(capsys, out, empty, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    assert "peft_type is 'IA3', expected 'LORA'" in refusal(capsys, out, model, adapter)
    (adapter / "adapter_config.json").write_text("[")
    assert "adapter_config.json: cannot be read" in refusal(capsys, out, model, adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    assert "does not fit the model" in refusal(capsys, out, model, adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / ORIGIN).write_text('{"fingerprint": 5}')
    assert "fedrlvr.json: base_model" in " ".join(refusal_lines(capsys, out, model, adapter))


def refusal_lines(capsys, out: Path, model: Path, adapter: Path) -> list[str]:
    assert merged(model, adapter, out) == 2
    return capsys.readouterr().err.splitlines()


def test_factors_that_are_no_numbers_are_refused(model, adapter, tmp_path, capsys):
    factors = load_file(adapter / "adapter_model.safetensors")
    next(iter(factors.values()))[0, 0] = float("nan")
    save_file(factors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "cannot be merged: NaNs detected" in refusal(capsys, tmp_path / "out", model, adapter)


def test_quantised_weights_are_refused(model, adapter, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    (other / "config.json").write_text(json.dumps(config))
    assert "its weights are quantised" in refusal(capsys, tmp_path / "out", other, adapter)


def test_nothing_is_overwritten(model, adapter, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    assert merged(model, adapter, tmp_path / "out") == 2
    assert "exists already; expected a new or empty directory" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
