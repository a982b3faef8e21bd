"""Rows packed for training: no padding, and rows of one prompt share it. Index arithmetic alone.

A micro-batch becomes one sequence of L tokens: every prompt once, then of every completion all tokens but the last,
which predicts nothing. Only attention looks across tokens, so only attention has to know what belongs together: it
goes block by block, S sequences of about the same length at once, padded to the longest of them. A completion looks at
its prompt's tokens and at its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch

from fedrlvr.learning.batch import Row

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """S sequences with at most T tokens, which look at up to K tokens: the positions that these have in their own
    rows (S x T and S x K), and which of them are real; the others are padding."""

    query_positions: torch.Tensor
    real_queries: torch.Tensor
    key_positions: torch.Tensor
    real_keys: torch.Tensor


@dataclass(frozen=True)
class Packing:
    """`token_ids` and `position_ids` are 1 x L.

    `queries` and `keys` say where the blocks' tokens are among the L, one block after another; padding stands for the
    first. `real` are the places of the L tokens among `queries`. `predicting` says for each completion token, row by
    row, after which of the L tokens it is predicted.
    """

    token_ids: torch.Tensor
    position_ids: torch.Tensor
    blocks: tuple[Block, ...]
    queries: torch.Tensor
    keys: torch.Tensor
    real: torch.Tensor
    predicting: torch.Tensor


def pack(rows: Sequence[Row], device: torch.device) -> Packing:
    laid = _Laid()
    first: dict[tuple[int, ...], int] = {}  # prompt -> the place of its first token
    for prompts in _alike(dict.fromkeys(row.prompt_ids for row in rows), lambda prompt: _size(len(prompt))):
        first |= zip(prompts, laid.add(prompts, [0] * len(prompts), [0] * len(prompts)), strict=True)
    begins = [0] * len(rows)
    longer = [i for i, row in enumerate(rows) if len(row.completion_ids) > 1]
    for some in _alike(longer, lambda i: (_size(len(rows[i].prompt_ids)), _size(len(rows[i].completion_ids)))):
        prompts = [rows[i].prompt_ids for i in some]
        parts = [rows[i].completion_ids[:-1] for i in some]
        for i, start in zip(some, laid.add(parts, [first[p] for p in prompts], map(len, prompts)), strict=True):
            begins[i] = start
    predicting: list[int] = []
    for row, begin in zip(rows, begins, strict=True):
        predicting.append(first[row.prompt_ids] + len(row.prompt_ids) - 1)
        predicting.extend(range(begin, begin + len(row.completion_ids) - 1))
    return laid.packing(torch.tensor(predicting), device)


class _Laid:
    """A packed sequence in the making."""

    def __init__(self):
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.blocks: list[Block] = []
        self.places: list[tuple[torch.Tensor, torch.Tensor]] = []  # of a block's queries and keys

    def add(self, parts: Sequence[tuple[int, ...]], prefix_starts: Iterable[int], before: Iterable[int]) -> list[int]:
        """Add a block of `parts`, each of which looks at so many tokens `before` it, from `prefix_starts` on. Returns
        where each part begins."""
        starts = list(accumulate((len(part) for part in parts[:-1]), initial=len(self.tokens)))
        before = list(before)
        for part, count in zip(parts, before, strict=True):
            self.tokens.extend(part)
            self.positions.extend(range(count, count + len(part)))
        columns = (starts, [len(part) for part in parts], list(prefix_starts), before)
        start, length, prefix_start, prefix_length = (torch.tensor(column).unsqueeze(1) for column in columns)
        own, prefix = torch.arange(int(length.max())), torch.arange(int(prefix_length.max()))
        real_own, real_prefix = own < length, prefix < prefix_length
        queries, positions = (start + own) * real_own, prefix_length + own
        self.places.append((queries, torch.cat([(prefix_start + prefix) * real_prefix, queries], dim=1)))
        key_positions = torch.cat([prefix.expand(len(parts), -1), positions], dim=1)
        self.blocks.append(Block(positions, real_own, key_positions, torch.cat([real_prefix, real_own], dim=1)))
        return starts

    def packing(self, predicting: torch.Tensor, device: torch.device) -> Packing:
        queries, keys = (torch.cat([index.flatten() for index in side]) for side in zip(*self.places, strict=True))
        real = torch.cat([block.real_queries.flatten() for block in self.blocks]).nonzero().squeeze(1)
        ids, positions = torch.tensor([self.tokens]), torch.tensor([self.positions])
        tensors = (index.to(device) for index in (queries, keys, real, predicting))
        blocks = (Block(*(tensor.to(device) for tensor in vars(block).values())) for block in self.blocks)
        return Packing(ids.to(device), positions.to(device), tuple(blocks), *tensors)


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
