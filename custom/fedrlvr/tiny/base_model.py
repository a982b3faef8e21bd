"""Make a tiny base model for a task: a few hundred thousand parameters, warm-started on demonstrations.

The demo, the tests and dry runs start from it, as it needs no model hub and little time. It is a real Hugging Face
directory (config, safetensors, tokenizer), which is loaded like a large model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from fedrlvr.config import PromptSettings, Settings
from fedrlvr.data.tokenizer import end_ids, load_tokenizer, prompt_ids
from fedrlvr.streams import seed_of, stream
from fedrlvr.tasks import Task
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.tiny.architectures import ARCHITECTURES, shrunk_config, small_config
from fedrlvr.tiny.small_tokenizers import CHAT_STYLES, character_tokenizer, chat_tokenizer
from fedrlvr.types import Problem


class BaseModelSettings(Settings):
    """A tiny base model with a supervised warm start, for runs without `--model`."""

    architecture: Literal[ARCHITECTURES] = Field("qwen3", description="Of which released family it is a small copy.")
    chat: Literal[tuple(CHAT_STYLES)] | None = Field(
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

    @property
    def sizes(self) -> dict[str, int]:
        names = ("hidden_size", "num_layers", "intermediate_size", "num_heads", "head_dim")
        return {name: getattr(self, name) for name in names}


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
    model, tokenizer = warm_start(task, synthetic, settings, progress)
    _save(model, tokenizer, path, rebuild)
    return path


def shrunk_model(source: Path, settings: BaseModelSettings, folder: Path) -> Path:
    """Make a small copy, under `folder`, of the model in `source`: its architecture and tokenizer, random weights.

    It is for dry runs, which try everything except learning.

    Raises:
        ValueError: transformers cannot read a configuration or tokenizer there.
    """
    config = shrunk_config(source, **settings.sizes)
    tokenizer = load_tokenizer(source)
    model = _random_model(config, settings.seed)
    if (source / "generation_config.json").is_file():  # it names the tokens that end a turn
        model.generation_config = GenerationConfig.from_pretrained(source, local_files_only=True)
    path = folder / f"{source.name}-tiny"
    _save(model, tokenizer, path, rebuild=True)
    return path


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, rebuild: bool) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    tokenizer.save_pretrained(unfinished)
    model.save_pretrained(unfinished)
    if rebuild:
        shutil.rmtree(path, ignore_errors=True)
    try:
        unfinished.rename(path)  # so that the directory is complete whenever it exists
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(unfinished)  # another run made the same model in the meantime


def warm_start(
    task: Task, synthetic: GeneratedTask, settings: BaseModelSettings, progress: Progress
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Train on demonstrations, with the loss on the completion only. One thread makes the result repeat bit by bit."""
    tokenizer = _tokenizer(task, synthetic, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        positions = settings.max_position_embeddings
        config = small_config(
            settings.architecture, tokenizer, len(tokenizer), max_position_embeddings=positions, **settings.sizes
        )
        model = _random_model(config, settings.seed)
        ends = _set_ends(model, tokenizer, settings)
        random = stream(settings.seed, "base model data", task.name)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=settings.learning_rate, total_steps=max(settings.steps, 2), pct_start=0.05
        )
        model.train()
        for step in range(settings.steps):
            loss = model(**_batch(task, synthetic, tokenizer, ends[0], settings.batch_size, random)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress(step + 1, settings.steps, float(loss.detach()))
    finally:
        torch.set_num_threads(threads)
    return model.eval(), tokenizer


def _sample(synthetic: GeneratedTask, settings: BaseModelSettings, purpose: str) -> list[tuple[Problem, str]]:
    """64 problems of each label, each with a demonstration."""
    random = stream(settings.seed, f"base model {purpose}", synthetic.name)
    problems = [synthetic.problem(label, random) for label in synthetic.labels for _ in range(64)]
    return [(problem, synthetic.demonstration(problem, random)) for problem in problems]


def _key(task: Task, synthetic: GeneratedTask, settings: BaseModelSettings) -> str:
    """A hash of the settings and of a sample of prompts and demonstrations."""
    sample = [[task.prompt(problem), answer] for problem, answer in _sample(synthetic, settings, "key")]
    return hashlib.sha256(json.dumps([task.name, settings.model_dump(), sample]).encode()).hexdigest()[:12]


def _tokenizer(task: Task, synthetic: GeneratedTask, settings: BaseModelSettings) -> PreTrainedTokenizerBase:
    if settings.chat is None:
        return character_tokenizer(synthetic.alphabet)
    texts = [
        text for problem, answer in _sample(synthetic, settings, "texts") for text in (task.prompt(problem), answer)
    ]
    return chat_tokenizer(texts, settings.chat, settings.vocabulary)


def _random_model(config, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "base model weights"))
        return AutoModelForCausalLM.from_config(config)


def _set_ends(model: PreTrainedModel, tokenizer, settings: BaseModelSettings) -> tuple[int, ...]:
    """Write the tokens that end an answer into the model's generation config, as released models do; return them."""
    ids = set()
    if settings.chat:
        ids.add(tokenizer.convert_tokens_to_ids(CHAT_STYLES[settings.chat].end_turn))
    ends = end_ids(tokenizer, ids, PromptSettings())
    model.generation_config.eos_token_id = list(ends) if len(ends) > 1 else ends[0]
    return ends


def _batch(
    task: Task, synthetic: GeneratedTask, tokenizer, end_id: int, size: int, random: np.random.Generator
) -> dict[str, torch.Tensor]:
    rows, labels = [], []
    for index in range(size):
        problem = synthetic.problem(synthetic.labels[index % len(synthetic.labels)], random)
        prompt = prompt_ids(tokenizer, task.prompt(problem), PromptSettings())
        answer = [*tokenizer(synthetic.demonstration(problem, random), add_special_tokens=False).input_ids, end_id]
        rows.append(torch.tensor([*prompt, *answer]))
        labels.append(torch.tensor([-100] * len(prompt) + answer))
    return {
        "input_ids": pad_sequence(rows, True, tokenizer.pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], True),
        "labels": pad_sequence(labels, True, -100),
    }
