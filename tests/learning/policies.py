"""Policies and engines on small models, adapters that change something, and steps that move them."""

from pathlib import Path

import torch

from fedrlvr.config import LoraSettings, OptimizerSettings, PromptSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.model import Policy, load_policy
from fedrlvr.site_config import LocalModel

# Of DeepSpeed's optimizers: ZeRO stage, number type.
KINDS = [(0, "float32"), (1, "float32"), (2, "float32"), (0, "bfloat16"), (1, "bfloat16"), (2, "bfloat16")]
KINDS += [(3, "float32"), (3, "bfloat16")]
PROMPTS = ("A3725?", "B12?", "D0987?", "C5?")  # of different lengths, so that padding matters
TEXTS = ("p3,7=0;2,5=7#07", "q3,7=4", "s1,1=1;0,9=0#10")


def load(model: Path | LocalModel, **lora) -> Policy:
    model = model if isinstance(model, LocalModel) else LocalModel(model_path=model)
    return load_policy(model, LoraSettings(**lora), PromptSettings(), torch.device("cpu"))


def prompts(policy: Policy, count: int) -> list[tuple[int, ...]]:
    return [policy.encode(text) for text in PROMPTS[:count]]


def move(policy: Policy, std: float = 0.05) -> None:
    """Another adapter."""
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=std)


def make_engine(
    model_path: Path, stage=0, dtype="float32", gradient_checkpointing=False, ranks=None, **optimizer
) -> Engine:
    model = LocalModel(model_path=model_path, dtype=dtype, gradient_checkpointing=gradient_checkpointing)
    settings = OptimizerSettings(**({"learning_rate": 1e-2} | optimizer))
    return Engine(load(model), settings, {"zero_optimization": {"stage": stage}}, temperature=1.0, ranks=ranks)


def rows_of(engine: Engine, texts=TEXTS) -> list[Row]:
    return [Row(engine.policy.encode(PROMPTS[0]), engine.policy.encode(text)) for text in texts]


def descend(engine: Engine, rows: list[Row], parts: int = 1) -> float:
    """One step of maximum likelihood, in `parts` micro-batches; the gradient's norm."""
    size = len(rows) // parts
    for i in range(parts):
        batch = collate(rows[i * size : (i + 1) * size], engine.policy.tokenizer.pad_token_id, engine.device)
        engine.backward(-(engine.logprobs(batch) * batch.mask).sum() / len(rows), last=i == parts - 1)
    return engine.step()


def descend_often(engine: Engine, steps: int) -> None:
    """On one, two and three rows in turn."""
    for number in range(steps):
        descend(engine, rows_of(engine)[: 1 + number % 3])
