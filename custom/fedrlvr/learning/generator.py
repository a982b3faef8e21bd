"""What a rollout engine offers. `build.py` makes the one that the site's file names."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch


@dataclass(frozen=True)
class Sample:
    """Token ids with the end token, their log-probabilities at the sampling temperature, and mean entropy (nats), or
    an estimate of it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    entropy: float


class Generator(Protocol):
    """Samples completions from the policy as it is now: with its adapter disabled, from the base model."""

    repeats: bool  # the same uniforms give the same tokens, bit for bit
    exact_logprobs: bool  # a sample's log-probabilities are training's, but for rounding in float32: they can be kept

    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """N / len(prompts) samples for each prompt, at most T tokens long. `uniforms_NT` in [0, 1) decides each token
        of each row; an engine that draws by itself takes its seed from them. All ranks call this at the same time; one
        may have no prompts."""

    def adapter_changed(self) -> None:
        """Called after the adapter was loaded, or moved by a step: what is kept of the one before is out of date."""

    def close(self) -> None:
        """Free what the engine holds; it is not used again."""


def seed_from(uniforms: torch.Tensor) -> int:
    """For an engine that draws by itself: a number below 2^63, from all of these random numbers."""
    digest = sha256(uniforms.contiguous().numpy().tobytes()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
