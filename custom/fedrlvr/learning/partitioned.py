"""Weights that ZeRO stage 3 divides among the ranks.

Before a module computes, DeepSpeed's hooks on it gather its weights from all ranks; then they let them go. So all ranks
must run the same modules equally often, and whoever reads weights without calling their module must gather them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def is_partitioned(module: torch.nn.Module) -> bool:
    return any(hasattr(parameter, "ds_id") for parameter in module.parameters())


def gather_when_called(optimizer) -> None:
    """Have this optimizer of DeepSpeed gather a module's weights when it is called and not before. By itself it keeps
    a record of the modules called, and gathers in advance. But calls for sampling, scoring and training differ, and
    their number differs from rank to rank. The hook that goes here would begin the record."""
    optimizer.parameter_offload.fwd_pre_hook.remove()


@contextmanager
def whole(parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Have these parameters whole on every rank during the block, which must not change them."""
    divided = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not divided:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(divided):
        yield


@contextmanager
def in_step(module: torch.nn.Module, idle: Callable[[], object]) -> Iterator[None]:
    """For a block in which each rank calls `module` as often as it needs. Where its weights are partitioned, a call
    waits until all ranks make one; a rank at the end of its block calls `idle`, which calls `module` once, until all
    are there."""
    if not is_partitioned(module) or dist.get_world_size() == 1:
        yield
        return

    def before_a_call(*_) -> None:
        _any_rank(True)

    hook = module.register_forward_pre_hook(before_a_call)
    try:
        yield
    finally:
        hook.remove()
    while _any_rank(False):
        idle()


def _any_rank(calls: bool) -> bool:
    """Whether one of the ranks calls the module now. Each must ask."""
    answer = torch.tensor(int(calls))
    dist.all_reduce(answer, op=dist.ReduceOp.MAX)
    return bool(answer)
