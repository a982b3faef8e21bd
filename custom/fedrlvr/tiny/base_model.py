"""A tiny base model for a task: found by its settings, or made on first use.

The demo, the tests and dry runs start from it, as it needs no model hub and little time. It is a real Hugging Face
directory (config, safetensors, tokenizer), which is loaded like a large model.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from fedrlvr.config import Settings
from fedrlvr.streams import stream
from fedrlvr.tasks import Task
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.types import Problem

Architecture = Literal["qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text", "phi", "phi3"]
Chat = Literal["chatml", "llama3", "mistral", "gemma", "phi"]


class BaseModelSettings(Settings):
    """A tiny base model with a supervised warm start, for runs without `--model`."""

    architecture: Architecture = Field("qwen3", description="Of which released family it is a small copy.")
    chat: Chat | None = Field(
        None, description="The chat format of a byte-level BPE tokenizer; null: each character is a token."
    )
    vocabulary: int = Field(512, ge=300, description="Tokens of the BPE tokenizer.")
    hidden_size: int = Field(64, ge=8, description="Width of the model.")
    num_layers: int = Field(2, ge=1, description="Layers.")
    intermediate_size: int = Field(192, ge=8, description="Width of each MLP.")
    num_heads: int = Field(4, ge=1, description="Attention heads.")
    head_dim: int = Field(32, ge=8, description="Width of each head; other rollout engines can serve 32.")
    max_position_embeddings: int = Field(512, ge=16, description="The longest sequence, in tokens.")
    steps: int = Field(400, ge=0, description="Supervised steps of the warm start.")
    batch_size: int = Field(64, ge=1, description="Demonstrations in each of them.")
    learning_rate: float = Field(6e-3, gt=0, description="The highest of the warm start.")
    seed: int = Field(0, ge=0, description="Of weights and demonstrations; it does not depend on the job's.")


Progress = Callable[[int, int, float], None]  # step, of how many, loss


def base_model(
    task: Task,
    synthetic: GeneratedTask,
    settings: BaseModelSettings,
    folder: Path,
    rebuild: bool = False,
    progress: Progress = lambda step, steps, loss: None,
) -> Path:
    """The directory of this base model under `folder`: made on first use, then found by its settings and data.

    `task` writes the prompts, `synthetic` makes the problems and demonstrations; often both are the same task.
    """
    path = folder / f"{task.name}-{_key(task, synthetic, settings)}"
    if path.exists() and not rebuild:
        return path
    from fedrlvr.tiny.small_models import save, warm_start  # takes seconds to import

    model, tokenizer = warm_start(task, synthetic, settings, progress)
    save(model, tokenizer, path, rebuild)
    return path


def demonstrations(synthetic: GeneratedTask, settings: BaseModelSettings, purpose: str) -> list[tuple[Problem, str]]:
    """64 problems of each label, each with a demonstration."""
    random = stream(settings.seed, f"base model {purpose}", synthetic.name)
    problems = [synthetic.problem(label, random) for label in synthetic.labels for _ in range(64)]
    return [(problem, synthetic.demonstration(problem, random)) for problem in problems]


def _key(task: Task, synthetic: GeneratedTask, settings: BaseModelSettings) -> str:
    """A hash of the settings and of a sample of prompts and demonstrations."""
    sample = [[task.prompt(problem), answer] for problem, answer in demonstrations(synthetic, settings, "key")]
    return hashlib.sha256(json.dumps([task.name, settings.model_dump(), sample]).encode()).hexdigest()[:12]
