"""Make small models: trained on demonstrations of a task, or of random weights."""

import os
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from fedrlvr.config import PromptSettings
from fedrlvr.data.tokenizer import end_ids, load_tokenizer, prompt_ids
from fedrlvr.streams import seed_of, stream
from fedrlvr.tasks import Task
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.tiny.architectures import no_small_copy, shrunk_config, small_config
from fedrlvr.tiny.base_model import BaseModelSettings, Progress, demonstrations
from fedrlvr.tiny.small_tokenizers import CHAT_STYLES, character_tokenizer, chat_tokenizer


def shrunk_model(source: Path, settings: BaseModelSettings, folder: Path) -> Path:
    """Make a small copy, under `folder`, of the model in `source`: its architecture and tokenizer, random weights.

    It is for dry runs, which try everything except learning. Raises ValueError as `shrunk_config` and `load_tokenizer`,
    and where the architecture cannot be made small in the way of all others.
    """
    config, tokenizer = shrunk_config(source, settings), load_tokenizer(source)
    try:
        model = _random_model(config, settings.seed)
    except Exception as error:  # whatever an architecture says of sizes that do not go together
        raise ValueError(no_small_copy(source, error)) from None
    if (source / "generation_config.json").is_file():  # it names the tokens that end a turn
        model.generation_config = GenerationConfig.from_pretrained(source, local_files_only=True)
    path = folder / f"{source.name}-tiny"
    save(model, tokenizer, path, rebuild=True)
    return path


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, rebuild: bool) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    tokenizer.save_pretrained(unfinished)
    transformers.utils.logging.disable_progress_bar()  # of a file of a megabyte
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
        model = _random_model(small_config(settings, tokenizer), settings.seed)
        ends = _set_ends(model, tokenizer, settings)
        random = stream(settings.seed, "base model data", task.name)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        total = max(settings.steps, 3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(  # with a rise of one step it would divide by zero
            optimizer, max_lr=settings.learning_rate, total_steps=total, pct_start=max(0.05, 2 / total)
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


def _tokenizer(task: Task, synthetic: GeneratedTask, settings: BaseModelSettings) -> PreTrainedTokenizerBase:
    if settings.chat is None:
        return character_tokenizer(synthetic.alphabet)
    examples = demonstrations(synthetic, settings, "texts")
    texts = chain.from_iterable((task.prompt(problem), answer) for problem, answer in examples)
    return chat_tokenizer(texts, settings.chat, settings.vocabulary)


def _random_model(config, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "base model weights"))
        return AutoModelForCausalLM.from_config(config)


def _set_ends(model: PreTrainedModel, tokenizer, settings: BaseModelSettings) -> tuple[int, ...]:
    """Write the tokens that end an answer into the model's generation config, as released models do; return them."""
    ids = {tokenizer.convert_tokens_to_ids(CHAT_STYLES[settings.chat].end_turn)} if settings.chat else set()
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
