"""Clipping and noise, the two operations of a Gaussian mechanism: for an adapter's difference and for a gradient."""

import math
import secrets
from collections.abc import Sequence

import numpy as np
import torch

from fedrlvr.types import Adapter

DRAWS = 4  # Gaussian draws that are summed to one number of noise


def secret_random() -> np.random.Generator:
    """A random generator seeded with 256 bits from the operating system.

    The server knows the job's seed, with which it could subtract the noise or find out which problems were sampled.
    The generator is fast but not cryptographic: the guarantee assumes that nobody recovers its state from the sums,
    the only place where its numbers are seen.
    """
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))


def l2_norm(adapter: Adapter) -> float:
    """The L2 norm over all tensors together, in float64."""
    return sum(float(tensor.double().square().sum()) for tensor in adapter.values()) ** 0.5


def clip(adapter: Adapter, clip_norm: float) -> tuple[Adapter, float]:
    """The adapter scaled down to an L2 norm of at most `clip_norm`, and its norm before.

    The result never exceeds `clip_norm`, even after rounding to float32.
    """
    norm = l2_norm(adapter)
    if norm <= clip_norm:
        return adapter, norm
    # Rounding changes each number, and so the norm, by at most a share of 2^-24.
    scale = clip_norm / norm * (1 - 2.0**-23)
    return {name: (tensor.double() * scale).float() for name, tensor in adapter.items()}, norm


def clip_gradient(gradient: Sequence[torch.Tensor], clip_norm: float) -> tuple[list[torch.Tensor], float]:
    """One problem's gradient in float64, scaled down to a joint L2 norm of at most `clip_norm`, and its norm before.

    The clipping of DP-SGD (arXiv 1607.00133), with a problem's whole group as the example. A gradient that is not
    finite becomes 0, as no scaling bounds it.
    """
    exact = [part.double() for part in gradient]
    norm = float(torch.stack([part.square().sum() for part in exact]).sum().sqrt())
    if not math.isfinite(norm):
        return [torch.zeros_like(part) for part in exact], norm
    scale = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return [part * scale for part in exact], norm


def gaussian(shape, std: float, random: np.random.Generator) -> torch.Tensor:
    """Independent N(0, std^2) numbers, float64.

    Each is the scaled sum of `DRAWS` draws: the last bits of a single draw would reveal the number it was added to
    (Mironov, CCS 2012; Holohan & Braghin, arXiv 2107.10138).
    """
    total = sum(random.standard_normal(tuple(shape)) for _ in range(DRAWS))
    return torch.from_numpy(np.asarray(total * (std / DRAWS**0.5)))


def add_noise(adapter: Adapter, std: float, random: np.random.Generator | None = None) -> Adapter:
    """The adapter with secret N(0, std^2) noise on every number, in float32. `random` is for tests."""
    random = random or secret_random()
    return {n: (tensor.double() + gaussian(tensor.shape, std, random)).float() for n, tensor in adapter.items()}
