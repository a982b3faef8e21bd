"""Clipping and noise: the two operations that make an adapter's difference a Gaussian mechanism."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import torch

from fedrlvr.types import Adapter

DRAWS = 4  # Gaussians summed for one number of noise


def secret_random() -> np.random.Generator:
    """Randomness that does not follow from anything a job knows: seeded with 256 bits of the operating system's. A
    job's seed is known to the server, which could take the noise off again or tell who was sampled.

    A fast generator, not a cryptographic one: nobody sees its numbers but under a sum, and the guarantee is as good as
    that."""
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))


def l2_norm(adapter: Adapter) -> float:
    """Over all tensors together, in float64."""
    return sum(float(tensor.double().square().sum()) for tensor in adapter.values()) ** 0.5


def clip(adapter: Adapter, clip_norm: float) -> tuple[Adapter, float]:
    """The adapter scaled down to an L2 norm of at most `clip_norm`, and the norm that it had.

    Rounding to float32 included: what is returned never exceeds `clip_norm`.
    """
    norm = l2_norm(adapter)
    if norm <= clip_norm:
        return adapter, norm
    # Rounding moves a number by at most 2^-24 of itself, and so the norm by at most that share.
    scale = clip_norm / norm * (1 - 2.0**-23)
    return {name: (tensor.double() * scale).float() for name, tensor in adapter.items()}, norm


def clip_gradient(gradient: Sequence[torch.Tensor], clip_norm: float) -> tuple[list[torch.Tensor], float]:
    """The gradient scaled down to a joint L2 norm of at most `clip_norm`, float64, and the norm that it had.

    A gradient that is not finite counts as none: nothing bounds it.
    """
    exact = [part.double() for part in gradient]
    norm = float(torch.stack([part.square().sum() for part in exact]).sum().sqrt())
    if not torch.isfinite(torch.tensor(norm)):
        return [torch.zeros_like(part) for part in exact], norm
    scale = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return [part * scale for part in exact], norm


def gaussian(shape, std: float, random: np.random.Generator) -> torch.Tensor:
    """Independent N(0, std^2) numbers, float64.

    Each is the scaled sum of `DRAWS` draws: the last bits of a single one betray what it was added to (Mironov, CCS
    2012; Holohan & Braghin, arXiv 2107.10138).
    """
    total = sum(random.standard_normal(tuple(shape)) for _ in range(DRAWS))
    return torch.from_numpy(np.asarray(total * (std / DRAWS**0.5)))


def add_noise(adapter: Adapter, std: float, random: np.random.Generator | None = None) -> Adapter:
    """N(0, std^2) on every number, drawn in secret; float32. `random` is for tests."""
    random = random or secret_random()
    return {n: (tensor.double() + gaussian(tensor.shape, std, random)).float() for n, tensor in adapter.items()}
