"""Averages of the factors that one strange site cannot decide. As `fedit`, they do not give the mean product.

Each takes the adapter the round started from and the sites' updates, and returns the next adapter, in float64 until the
end. A site that sends numbers close to those of others is not found by any of them.
"""

from collections.abc import Callable, Sequence
from statistics import median as middle

import torch

from fedrlvr.types import Adapter


def median(start: Adapter, updates: Sequence[Adapter]) -> Adapter:
    """The median of every number by itself, of an even count the mean of the middle two (arXiv 1803.01498)."""
    return _moved(start, updates, lambda stack: _without_ends(stack, (len(updates) - 1) // 2))


def trimmed_mean(start: Adapter, updates: Sequence[Adapter], trim_fraction: float) -> Adapter:
    """The mean of every number by itself, without the share `trim_fraction` of the sites at each end, rounded down
    (arXiv 1803.01498). Raises ValueError where that leaves out none."""
    count = len(updates)
    left_out = min(int(trim_fraction * count + 1e-9), (count - 1) // 2)
    if not left_out:
        raise ValueError(f"trimmed_mean: of {count} updates, trim_fraction {trim_fraction:g} leaves out none")
    return _moved(start, updates, lambda stack: _without_ends(stack, left_out))


def norm_bounded(
    start: Adapter, updates: Sequence[Adapter], weights: Sequence[float], norm_bound: float | None
) -> Adapter:
    """The weighted mean of the updates, each scaled down to an L2 norm over all tensors of at most `norm_bound`; None:
    of the median of their norms (arXiv 1911.07963)."""
    norms = [sum(float(tensor.double().square().sum()) for tensor in update.values()) ** 0.5 for update in updates]
    bound = middle(norms) if norm_bound is None else norm_bound
    scales = [min(1.0, bound / norm) if norm > 0 else 1.0 for norm in norms]
    factors = torch.tensor([w * scale for w, scale in zip(weights, scales, strict=True)], dtype=torch.float64)
    return _moved(start, updates, lambda stack: torch.tensordot(factors, stack, dims=1))


def _moved(start: Adapter, updates: Sequence[Adapter], center: Callable[[torch.Tensor], torch.Tensor]) -> Adapter:
    """`start`, each tensor moved by the center of its updates, which are stacked along a first dimension."""
    return {
        name: (tensor.double() + center(torch.stack([update[name].double() for update in updates]))).to(tensor.dtype)
        for name, tensor in sorted(start.items())
    }


def _without_ends(stack: torch.Tensor, left_out: int) -> torch.Tensor:
    return stack.sort(dim=0).values[left_out : len(stack) - left_out].mean(dim=0)
