"""The ranks of one site's worker: how they meet, how they share the work, and how each gets all completions."""

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

import psutil
import torch
import torch.distributed as dist

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)


class Ranks:
    """One process, or several under torchrun. Objects that they exchange stay in the site's own worker."""

    def __init__(self, rank: int = 0, world_size: int = 1):
        self.rank, self.world_size = rank, world_size

    @classmethod
    def from_environment(cls, folder: Path) -> Self:
        """This process's rank, as its launcher set it. Several meet in a file in `folder`, which nobody else may read;
        only where some are on another machine, they meet over the network, where their launcher says.

        The time-out is 30 days, as ranks may wait long for rank 0's next request; the supervisor notices a hanging
        rank by its own deadline.
        """
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1:
            # The first is torchrun's name for it, the second DeepSpeed's.
            here = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world_size
            store = None
            if int(here) == world_size:
                keep_to_loopback()
                store = dist.FileStore(str(folder / "ranks"), world_size)
            backend = backend_for(int(here), torch.cuda.device_count())
            how = {"store": store, "rank": rank, "world_size": world_size}
            dist.init_process_group(backend, **how, timeout=timedelta(days=30))
        return cls(rank, world_size)

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's items: every world_size-th, so that long and short items are spread."""
        return list(items[self.rank :: self.world_size])

    def gather(self, mine: Sequence[T]) -> list[T]:
        """All items on every rank, in the order before `share`."""
        if self.world_size == 1:
            return list(mine)
        parts: list = [None] * self.world_size
        dist.all_gather_object(parts, list(mine))
        total = sum(map(len, parts))
        return [parts[i % self.world_size][i // self.world_size] for i in range(total)]

    def sum(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The sums over all ranks, on every rank, in the place of these."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)
        return tensors

    def broadcast(self, item):
        """Rank 0's item on every rank."""
        if self.world_size == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def backend_for(ranks: int, gpus: int) -> str:
    """What carries tensors between so many ranks on one machine. NCCL lets no two share a GPU; gloo does, by way of the
    machine's memory."""
    if ranks > gpus > 0:
        LOGGER.warning("%d ranks share %d GPUs and exchange tensors by gloo; fewer processes are faster", ranks, gpus)
    return "cpu:gloo,cuda:nccl" if gpus >= ranks else "gloo"


def keep_to_loopback() -> None:
    """Have gloo and NCCL listen where this machine alone can connect: nothing that they receive is authenticated."""
    addresses = psutil.net_if_addrs().items()
    loopback = next(name for name, own in addresses if any(one.address == "127.0.0.1" for one in own))
    os.environ.update(GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
