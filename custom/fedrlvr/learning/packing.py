"""Rows packed for training: no padding, and rows of one prompt share it. Index arithmetic alone.

A micro-batch becomes one sequence of L tokens: every prompt once, then of every completion all tokens but the last,
which predicts nothing. Only attention looks across tokens, so only attention has to know what belongs together: it
goes block by block, S sequences of about the same length at once, padded to the longest of them. A completion looks at
its prompt's tokens and at its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from fedrlvr.learning.batch import Row

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """S sequences with at most T tokens, which look at up to K tokens. `queries` (S x T) and `keys` (S x K) say where
    those tokens are in the packed sequence, the positions say where in their own row; `real_*` is False for padding,
    which stands for the packed sequence's first token."""

    queries: torch.Tensor
    query_positions: torch.Tensor
    real_queries: torch.Tensor
    keys: torch.Tensor
    key_positions: torch.Tensor
    real_keys: torch.Tensor


@dataclass(frozen=True)
class Packing:
    """`token_ids` and `position_ids` are 1 x L; the blocks' real queries, one block after another, are the L tokens in
    their order. `predicting` says for each completion token, row by row, which packed token it is predicted after."""

    token_ids: torch.Tensor
    position_ids: torch.Tensor
    blocks: tuple[Block, ...]
    predicting: torch.Tensor


def pack(rows: Sequence[Row], device: torch.device) -> Packing:
    tokens: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []

    def lay(parts: list[tuple[int, ...]], prefix_starts: list[int], prefix_lengths: list[int]) -> list[int]:
        """Add a block of `parts`, each after the prefix that it looks at; returns where each begins."""
        starts = []
        for part, before in zip(parts, prefix_lengths, strict=True):
            starts.append(len(tokens))
            tokens.extend(part)
            positions.extend(range(before, before + len(part)))
        blocks.append(_block(starts, [len(part) for part in parts], prefix_starts, prefix_lengths, device))
        return starts

    first: dict[tuple[int, ...], int] = {}  # prompt -> the place of its first token
    for prompts in _alike(dict.fromkeys(row.prompt_ids for row in rows), lambda prompt: _size(len(prompt))):
        first |= zip(prompts, lay(prompts, [0] * len(prompts), [0] * len(prompts)), strict=True)
    begins = [0] * len(rows)
    longer = [i for i, row in enumerate(rows) if len(row.completion_ids) > 1]
    for some in _alike(longer, lambda i: (_size(len(rows[i].prompt_ids)), _size(len(rows[i].completion_ids)))):
        prompts = [rows[i].prompt_ids for i in some]
        parts = [rows[i].completion_ids[:-1] for i in some]
        for i, start in zip(some, lay(parts, [first[p] for p in prompts], [len(p) for p in prompts]), strict=True):
            begins[i] = start
    predicting: list[int] = []
    for row, begin in zip(rows, begins, strict=True):
        predicting.append(first[row.prompt_ids] + len(row.prompt_ids) - 1)
        predicting.extend(range(begin, begin + len(row.completion_ids) - 1))
    ids, places, after = (torch.tensor(values, device=device) for values in (tokens, positions, predicting))
    return Packing(ids.unsqueeze(0), places.unsqueeze(0), tuple(blocks), after)


def _size(length: int) -> int:
    """Lengths of one size differ by less than a quarter of the longest: that much of a block is padding at most."""
    step = max(1, 2 ** (length.bit_length() - 3))
    return -(-length // step) * step


def _alike(items: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """The items in lists of one key, keys rising."""
    lists: dict[Any, list[T]] = {}
    for item in items:
        lists.setdefault(key(item), []).append(item)
    return [lists[size] for size in sorted(lists)]


def _block(starts, lengths, prefix_starts, prefix_lengths, device: torch.device) -> Block:
    numbers = (torch.tensor(values, device=device).unsqueeze(1) for values in (starts, lengths))
    start, length = numbers
    prefix_start, prefix_length = (torch.tensor(v, device=device).unsqueeze(1) for v in (prefix_starts, prefix_lengths))
    own = torch.arange(max(lengths), device=device)
    prefix = torch.arange(max(prefix_lengths), device=device)
    real_own, real_prefix = own < length, prefix < prefix_length
    queries, positions = (start + own) * real_own, prefix_length + own
    return Block(
        queries=queries,
        query_positions=positions,
        real_queries=real_own,
        keys=torch.cat([(prefix_start + prefix) * real_prefix, queries], dim=1),
        key_positions=torch.cat([prefix.expand(len(starts), -1), positions], dim=1),
        real_keys=torch.cat([real_prefix, real_own], dim=1),
    )
