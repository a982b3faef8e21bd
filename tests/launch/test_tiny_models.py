"""`--tiny --model DIR --env local`: a whole run, to its adapter."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny.released import write_config

from fedrlvr.launch.job import arguments, run
from fedrlvr.tiny.small_tokenizers import chat_tokenizer

PRESET = Path(__file__).parents[2] / "app_configs" / "math-qwen3-1.7b.yaml"
SHORT = ("federation.segments_per_round=1", "grpo.max_completion_length=12", "data.private_per_site=6", "data.public=4")


@pytest.mark.slow
def test_a_whole_run_of_a_model_that_keeps_states_and_sees(tmp_path, monkeypatch):
    tokenizer = chat_tokenizer(["how many figs are there in all?"], "chatml", 400)
    write_config(tmp_path / "released", "qwen3_5", tokenizer)
    save_file({"x": torch.zeros(1)}, tmp_path / "released" / "model.safetensors")  # nothing of it is read
    flags = ["--workspace", str(tmp_path / "work"), "--env", "local", "--tiny", "--model", str(tmp_path / "released")]
    monkeypatch.setattr(sys, "argv", ["job.py", *flags, *(part for setting in SHORT for part in ("--set", setting))])
    assert run(arguments("", PRESET)) == 0
    (folder,) = (tmp_path / "work").glob("math-*")
    assert json.loads((folder / "summary.json").read_text())["failures"] == []
    factors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert any(".linear_attn." in key for key in factors)
    assert not any("vision" in key for key in factors)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in factors.values())
    assert any(bool(tensor.any()) for key, tensor in factors.items() if ".lora_B." in key)  # a step was taken
