"""`--tiny --model DIR --env local` with models whose layers keep states, and that see: a whole run, to its adapter."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING

from fedrlvr.launch.job import run
from fedrlvr.tiny.small_tokenizers import chat_tokenizer

PRESET = Path(__file__).parents[2] / "app_configs" / "math-qwen3-1.7b.yaml"
SHORT = ("federation.segments_per_round=1", "grpo.max_completion_length=12", "data.private_per_site=6", "data.public=4")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "part"), [("qwen3_5", "linear_attn"), ("gemma3", "language_model")])
def test_a_whole_run(tmp_path, name, part):
    tokenizer, config = chat_tokenizer(["how many figs are there in all?"], "chatml", 400), CONFIG_MAPPING[name]()
    text = config.get_text_config()
    text.vocab_size, text.pad_token_id, text.bos_token_id = len(tokenizer), tokenizer.pad_token_id, None
    text.eos_token_id = tokenizer.eos_token_id
    config.save_pretrained(tmp_path / "released")
    tokenizer.save_pretrained(tmp_path / "released")
    save_file({"x": torch.zeros(1)}, tmp_path / "released" / "model.safetensors")  # nothing of it is read
    given = dict.fromkeys(("method", "seed", "poc", "kit", "data", "policy", "resume_from", "start_from"))
    given |= {"config": PRESET, "set": list(SHORT), "workspace": tmp_path / "work", "env": "local", "tiny": True}
    assert run(Namespace(**given, model=tmp_path / "released", rebuild_model=False)) == 0
    (folder,) = (tmp_path / "work").glob("math-*")
    assert json.loads((folder / "summary.json").read_text())["failures"] == []
    factors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert any(f".{part}." in key for key in factors)
    assert not any("vision" in key for key in factors)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in factors.values())
    assert any(bool(tensor.any()) for key, tensor in factors.items() if ".lora_B." in key)  # a step was taken
