"""Counting right answers problem by problem, so that a measurement can be interrupted and goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedConfig

from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.streams import seed_of
from fedrlvr.tasks.task import CUT_OFF
from fedrlvr.types import Group, Problem

MEMORY_SHARE = 0.5  # of what is free: the estimate leaves out activations and fragmentation


@dataclass(frozen=True)
class ProblemResult:
    """What one problem's completions came to; `tokens` are their mean length, `timeouts` verifications
    that were ended by a limit."""

    id: str
    label: str
    samples: int
    correct: int
    truncated: int
    timeouts: int
    tokens: float


def results(
    rollouts: Rollouts, problems: Sequence[Problem], samples: int, seed: int, rows: int
) -> Iterator[list[ProblemResult]]:
    """Sample and verify each problem `samples` times, about `rows` completions at once; fewer where memory runs out.

    What a problem's completions are depends on `seed` and its id alone, so neither `rows` nor what was measured before
    changes them.

    Raises:
        RuntimeError: memory runs out with a single problem at once.
    """
    start, chunk = 0, max(1, rows // samples)
    while start < len(problems):
        part = problems[start : start + chunk]
        try:
            groups, _ = rollouts.groups_from(part, _uniforms(part, samples, rollouts.max_completion_length, seed))
        except RuntimeError as error:
            if chunk == 1 or not should_reduce_batch_size(error):
                raise
            chunk //= 2
            continue
        yield [_result(group) for group in groups]
        start += len(part)


def rows_that_fit(config: PreTrainedConfig, length: int, dtype_bytes: int, device: torch.device) -> int:
    """How many completions of `length` tokens (prompt included) to sample at once in the memory that is free now.

    A row holds keys and values of every layer, and about six float32 copies of one position's logits.
    """
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * head_dim * length * dtype_bytes
    row = cache + 6 * 4 * config.vocab_size
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return max(1, int(free * MEMORY_SHARE / row))


def _uniforms(problems: Sequence[Problem], samples: int, length: int, seed: int) -> torch.Tensor:
    rows = []
    for problem in problems:
        random = torch.Generator().manual_seed(seed_of(seed, "evaluation", problem.id))
        rows.append(torch.rand(samples, length, generator=random))
    return torch.stack(rows)


def _result(group: Group) -> ProblemResult:
    completions = group.completions
    return ProblemResult(
        id=group.problem.id,
        label=group.problem.label,
        samples=len(completions),
        correct=group.num_correct,
        truncated=sum(c.truncated for c in completions),
        timeouts=sum(c.reason in CUT_OFF for c in completions),
        tokens=sum(len(c.token_ids) for c in completions) / len(completions),
    )
