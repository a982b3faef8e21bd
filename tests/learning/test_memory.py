"""How many rows fit, worked out by hand for small models; and which architectures cannot be sampled from, and why."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Mamba2Config,
    MiniMaxConfig,
    Qwen3Config,
    RecurrentGemmaConfig,
    RwkvConfig,
)

from fedrlvr.learning import memory
from fedrlvr.learning.memory import RowMemory, free_memory

COLUMNS, HELD = 10, 12  # a longest row of 10 tokens, an eighth of that (rounded down) to spare, and one
SIZES = {"vocab_size": 120, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
LOGITS = 4 * 120 * 4  # four copies in float32
CPU = torch.device("cpu")


def row_memory(config, dtype=torch.float32, device="cpu") -> RowMemory:
    with torch.device(device):
        return RowMemory(AutoModelForCausalLM.from_config(config, dtype=dtype).eval())


@pytest.mark.parametrize(
    ("config", "dtype", "expected"),
    [
        # keys and values of 2 layers x 2 heads x 16 x 12 tokens x 4 bytes
        (Qwen3Config(**SIZES, **HEADS, head_dim=16), torch.float32, 2 * 2 * 2 * 16 * HELD * 4),
        (Qwen3Config(**SIZES, **HEADS, head_dim=16), torch.bfloat16, 2 * 2 * 2 * 16 * HELD * 2),
        (Qwen3Config(**SIZES, **HEADS, head_dim=8), torch.float32, 2 * 2 * 2 * 8 * HELD * 4),
        # one layer sees 4 tokens and holds 5
        (
            Gemma3TextConfig(
                **SIZES, **HEADS, head_dim=16, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
            ),
            torch.float32,
            2 * 2 * 16 * (5 + HELD) * 4,
        ),
        # one layer with a state: 3 inputs of a convolution over 32 channels; its attention has heads of 32 / 4
        (
            Lfm2Config(**SIZES, **HEADS, layer_types=["conv", "full_attention"]),
            torch.float32,
            3 * 32 * 4 + 2 * 2 * 8 * HELD * 4,
        ),
    ],
    ids=["float32", "bfloat16", "small heads", "window", "state"],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_a_row_takes(config, dtype, expected, device):
    assert row_memory(config, dtype, device).bytes(COLUMNS) == expected + LOGITS


@pytest.mark.parametrize(
    ("free", "rows"),
    # a row takes 6144 + 1920 = 8064 bytes; a quarter of the free memory is used, and a power of two of rows
    [(32_256, 1), (8 * 8064, 2), (15 * 8064, 2), (16 * 8064, 4), (2**20, 32), (0, 1)],
)
def test_as_many_rows_as_a_quarter_of_the_free_memory_holds(monkeypatch, free, rows):
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    assert row_memory(Qwen3Config(**SIZES, **HEADS, head_dim=16)).rows_that_fit(COLUMNS) == rows


def test_on_a_gpu_its_free_memory_counts_and_what_pytorch_holds_unused(monkeypatch):
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda asked: (1000 if asked == device else 0, 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda asked: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda asked: 200)
    assert free_memory(device) == 1300


def test_a_container_has_less_than_its_machine(monkeypatch, tmp_path):
    """Every control group above counts; one without a limit does not."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    files = {tmp_path: None, tmp_path / "slurm": ("7000", "1000"), job: ("max", "900")}
    for folder, values in files.items():
        for name, value in zip(("memory.max", "memory.current"), values or (), strict=bool(values)):
            (folder / name).write_text(f"{value}\n")
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/other\n0::/slurm/job\n")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUP", own)
    assert free_memory(CPU) == 6000
    (job / "memory.max").write_text("2000\n")
    assert free_memory(CPU) == 1100
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "missing")  # not Linux
    assert free_memory(CPU) == 10_000


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Mamba2Config(num_heads=4, head_dim=16, hidden_size=32, num_hidden_layers=2), "it has no attention layers"),
        (
            RecurrentGemmaConfig(**SIZES, num_attention_heads=4, lru_width=32, block_types=["recurrent", "attention"]),
            "its recurrent layers may see padding",
        ),
        (MiniMaxConfig(**SIZES, **HEADS, layer_types=["linear_attention", "full_attention"]), "may see padding"),
        (RwkvConfig(hidden_size=32, num_hidden_layers=2, vocab_size=120), "does not keep its keys and values in"),
    ],
    ids=["mamba2", "recurrent_gemma", "minimax", "rwkv"],
)
def test_an_architecture_that_cannot_be_sampled_from_is_refused_by_name(config, reason):
    with pytest.raises(ValueError, match=f"^{config.model_type}: rollout.engine cached cannot sample .*{reason}"):
        row_memory(config)
