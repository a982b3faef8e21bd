"""Sampling in this process, from the model that is trained."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate.utils.memory import should_reduce_batch_size

from fedrlvr.learning.decoding import Decoding
from fedrlvr.learning.generator import Sample
from fedrlvr.learning.memory import SHARE_OF_CPU, RowMemory, free_memory
from fedrlvr.learning.merged import bytes_of_sums, merged
from fedrlvr.learning.model import Policy
from fedrlvr.learning.partitioned import is_partitioned

LOGGER = logging.getLogger(__name__)


class CachedSampler:
    """The `Generator` for any causal language model whose cache `RowCache` can hold.

    A row depends only on its own uniforms (inverse CDF). So how many rows there are at once, and when they come and go,
    does not change the samples, except for floating-point rounding.
    """

    repeats = True

    def __init__(self, policy: Policy, batch_size: int | None = None, top_p: float = 1.0):
        """At most `batch_size` completions are in memory at once; None: as many as it holds. `top_p` below 1 is for
        measuring: training would need the log-probabilities of all tokens. Raises ValueError where the model's cache is
        of a kind that `RowCache` cannot hold."""
        self.policy, self.batch_size, self.top_p = policy, batch_size, top_p
        # Kernels for weights in 4 bits round more than float32 does, and for other shapes in another way.
        packed = getattr(policy.model, "is_loaded_in_4bit", False)
        self.exact_logprobs = policy.model.dtype == torch.float32 and not packed
        self._memory = RowMemory(policy.model)
        self._together = is_partitioned(policy.model)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """As `Generator.sample`. Where memory runs out, completions that have ended are kept. The others start over,
        half as many at once, and so it stays. Raises RuntimeError where memory does not hold a single one, and where it
        runs out in a forward pass that all ranks make together."""
        if not prompts:
            return []
        decoding = Decoding(self.policy, prompts, temperature, uniforms_NT, self.top_p)
        with self._merged():
            rows = min(self.rows_that_fit(decoding.columns), len(uniforms_NT))
            while decoding.unfinished:
                try:
                    decoding.run(rows)
                except RuntimeError as error:
                    if rows == 1 or self._together or not should_reduce_batch_size(error):
                        raise
                    rows = self.batch_size = rows // 2
                    LOGGER.warning("memory ran out in sampling: from now on at most %d completions at once", rows)
        samples, group = decoding.samples(), decoding.group
        return [samples[i : i + group] for i in range(0, len(samples), group)]

    def rows_that_fit(self, columns: int) -> int:
        """How many completions of at most `columns` tokens, prompt included, are in memory at once."""
        rows = self._memory.rows_that_fit(columns)
        return min(rows, self.batch_size or rows)

    def adapter_changed(self) -> None:
        """Nothing is kept of an adapter from one call of `sample` to the next."""

    def close(self) -> None:
        """Nothing is held."""

    def _merged(self):
        """The factors added to the weights, unless the second copy of the weights is more than memory has to spare, or
        no rank has all of them."""
        model = self.policy.model
        fits = not self._together and bytes_of_sums(model) <= SHARE_OF_CPU * free_memory(model.device)
        return merged(model) if fits else nullcontext()
