"""What a rollout engine offers. `build.py` makes the one that the site's file names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Sample:
    """Token ids with the end token, their log-probabilities at the sampling temperature, and mean entropy (nats)."""

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
        of each row; an engine that draws by itself takes its seed from them."""

    def adapter_changed(self) -> None:
        """Called after the adapter was loaded, or moved by a step: what is kept of the one before is out of date."""

    def close(self) -> None:
        """Free what the engine holds; it is not used again."""
