"""What a round changes about the gradients of the LoRA factors: what is frozen gets none, and FedProx adds its own.

A hook on a parameter sees its gradient before DeepSpeed does. So this is the same in all ZeRO stages, norms are of what
trains, and the optimizer stays whole: Adam moves nothing by a gradient that was always 0.
"""

from collections.abc import Callable, Collection, Mapping

import torch

from fedrlvr.algorithms.lora import A_MARK
from fedrlvr.types import Adapter


class GradientHooks:
    """Hooks on the factors of these names; where nothing is asked of them, there are none."""

    def __init__(self, factors: Mapping[str, torch.nn.Parameter], ranks: int | None = None, adds: bool = False):
        """Only the first `ranks` ranks of each factor train; None: all. Without `adds`, `add` has no effect."""
        self._factors, self._ranks, self._adds = factors, ranks, adds
        self._added: Adapter = {}
        self._handles: list = []
        self.freeze(())

    def freeze(self, names: Collection[str]) -> None:
        """Train all factors but these from here on."""
        for handle in self._handles:
            handle.remove()
        self._handles = [
            parameter.register_hook(self._hook(name, name in names))
            for name, parameter in self._factors.items()
            if name in names or self._ranks is not None or self._adds
        ]

    def add(self, gradients: Adapter) -> None:
        """Add these to the gradients of the next backward pass. They are the same on every rank, as DeepSpeed takes the
        mean over ranks."""
        self._added = dict(gradients)

    def _hook(self, name: str, frozen: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        def change(gradient: torch.Tensor) -> torch.Tensor:
            added = self._added.pop(name, None)
            if frozen:
                return torch.zeros_like(gradient)
            if added is not None:
                gradient = gradient + added.to(gradient)
            if self._ranks is not None:  # A is r x d_in, B is d_out x r
                gradient = gradient.clone()
                (gradient if A_MARK in name else gradient.T)[self._ranks :] = 0
            return gradient

        return change
