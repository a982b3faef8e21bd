"""The ranks of one site's worker: who samples what, and how all come to know all completions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


class Ranks:
    """One process, or several under torchrun. Objects exchanged here never leave the site's own worker."""

    def __init__(self, rank: int = 0, world_size: int = 1):
        self.rank, self.world_size = rank, world_size

    @classmethod
    def from_environment(cls) -> Ranks:
        """This process's place as its launcher set it. Ranks may wait for days for rank 0's next request; a rank that
        hangs is the supervisor's deadline's business, not that of a collective's time-out.
        """
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(days=30))
        return cls(rank, world_size)

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every world_size-th, so that long and short ones spread."""
        return list(items[self.rank :: self.world_size])

    def gather(self, mine: Sequence[T]) -> list[T]:
        """All items on every rank, in the order they had before `share`."""
        if self.world_size == 1:
            return list(mine)
        parts: list = [None] * self.world_size
        dist.all_gather_object(parts, list(mine))
        total = sum(map(len, parts))
        return [parts[i % self.world_size][i // self.world_size] for i in range(total)]

    def broadcast(self, item):
        """Rank 0's item on every rank."""
        if self.world_size == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]
