"""Make a tiny base model for a generated task: a Qwen3 of a hundred thousand parameters and a character tokenizer.

Where no model hub can be reached, and where minutes count, the demo and the tests start from this: a real Hugging Face
directory (config, safetensors, tokenizer) that everything loads as it would load a large one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from fedrlvr.config import Settings
from fedrlvr.streams import seed_of, stream
from fedrlvr.tasks.task import GeneratedTask


class BaseModelSettings(Settings):
    """Architecture and supervised warm start. Head dimension 32 lets other rollout engines serve the same model."""

    hidden_size: int = Field(64, ge=8)
    num_layers: int = Field(2, ge=1)
    intermediate_size: int = Field(192, ge=8)
    num_heads: int = Field(4, ge=1)
    head_dim: int = Field(32, ge=8)
    steps: int = Field(400, ge=0)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(6e-3, gt=0)
    seed: int = Field(0, ge=0)


def base_model(
    task: GeneratedTask,
    settings: BaseModelSettings,
    folder: Path,
    rebuild: bool = False,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Path:
    """The directory of this base model under `folder`, made on first use and then found by its settings and data."""
    key = _key(task, settings)
    path = folder / f"{task.name}-{key}"
    if path.exists() and not rebuild:
        return path
    model, tokenizer = warm_start(task, settings, progress)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    tokenizer.save_pretrained(unfinished)
    model.save_pretrained(unfinished)
    if rebuild:
        shutil.rmtree(path, ignore_errors=True)
    try:
        unfinished.rename(path)  # whoever finds the directory finds it whole
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(unfinished)  # another run made the same model meanwhile
    return path


def warm_start(
    task: GeneratedTask, settings: BaseModelSettings, progress
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Supervised training on demonstrations, loss on the completion only; one thread, so that it repeats bit by bit."""
    tokenizer = character_tokenizer(task.alphabet)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(settings.seed, "base model weights"))
            model = Qwen3ForCausalLM(_architecture(settings, tokenizer))
        random = stream(settings.seed, "base model data", task.name)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=settings.learning_rate, total_steps=max(settings.steps, 2), pct_start=0.05
        )
        model.train()
        for step in range(settings.steps):
            loss = model(**_batch(task, tokenizer, settings.batch_size, random)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress(step + 1, settings.steps, float(loss.detach()))
    finally:
        torch.set_num_threads(threads)
    return model.eval(), tokenizer


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token a character; `<pad>` and `<eos>` are special and never come out of text."""
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _key(task: GeneratedTask, settings: BaseModelSettings) -> str:
    """Changes with the settings, and with what the task demonstrates (a sample stands for it)."""
    random = stream(settings.seed, "base model key", task.name)
    problems = [task.problem(label, random) for label in task.labels for _ in range(64)]
    sample = [task.prompt(problem) + task.demonstration(problem, random) for problem in problems]
    return hashlib.sha256(json.dumps([task.name, settings.model_dump(), sample]).encode()).hexdigest()[:12]


def _architecture(settings: BaseModelSettings, tokenizer) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_heads,
        head_dim=settings.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def _batch(task: GeneratedTask, tokenizer, size: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
    rows, prompt_lengths = [], []
    for index in range(size):
        problem = task.problem(task.labels[index % len(task.labels)], random)
        prompt = tokenizer(task.prompt(problem), add_special_tokens=False).input_ids
        answer = tokenizer(task.demonstration(problem, random), add_special_tokens=False).input_ids
        rows.append([*prompt, *answer, tokenizer.eos_token_id])
        prompt_lengths.append(len(prompt))
    width = max(map(len, rows))
    ids = torch.full((size, width), tokenizer.pad_token_id)
    labels = torch.full((size, width), -100)
    mask = torch.zeros((size, width), dtype=torch.long)
    for index, (row, start) in enumerate(zip(rows, prompt_lengths, strict=True)):
        ids[index, : len(row)] = torch.tensor(row)
        labels[index, start : len(row)] = torch.tensor(row[start:])
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
