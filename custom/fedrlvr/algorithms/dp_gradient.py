"""One private problem's share of a gradient, bounded (DP-SGD, arXiv 1607.00133, with a group as the example)."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def clipped(gradient: Sequence[torch.Tensor], clip_norm: float) -> tuple[list[torch.Tensor], float]:
    """The gradient scaled down to a joint L2 norm of at most `clip_norm`, float64, and the norm that it had.

    A gradient that is not finite counts as none: nothing bounds it.
    """
    exact = [part.double() for part in gradient]
    norm = float(torch.stack([part.square().sum() for part in exact]).sum().sqrt())
    if not torch.isfinite(torch.tensor(norm)):
        return [torch.zeros_like(part) for part in exact], norm
    scale = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return [part * scale for part in exact], norm
