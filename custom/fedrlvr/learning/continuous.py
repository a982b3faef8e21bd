"""Sampling in this process by transformers' continuous batching: a paged cache, and no place that waits for others."""

import logging
from collections.abc import Sequence

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from fedrlvr.learning.agreement import check_agreement
from fedrlvr.learning.generator import Sample, seed_from
from fedrlvr.learning.memory import SHARE_OF_GPU
from fedrlvr.learning.merged import merged
from fedrlvr.learning.model import Policy

PAGE, TOKENS_AT_ONCE = 32, 1024  # of the cache on a CPU, and of one forward pass; on a GPU transformers chooses


class ContinuousEngine:
    """The `Generator` of transformers' `generate_batch`. Entropies are estimated by log-probabilities."""

    repeats = False

    def __init__(self, policy: Policy, batch_size: int | None = None):
        """At most `batch_size` completions are under way at once; None: up to 1,024. Raises ValueError where
        what it samples from is not the model that is trained, and RuntimeError where it cannot sample at all."""
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)  # it tells of every call
        self._policy, self._batch_size = policy, batch_size
        self.exact_logprobs = check_agreement("rollout.engine continuous", policy, self.sample, self.adapter_changed)

    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """As `Generator.sample`. Raises RuntimeError for completions that were not finished."""
        if not prompts:
            return []
        policy, (rows, length) = self._policy, uniforms_NT.shape
        group = rows // len(prompts)
        how = GenerationConfig(
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=length,
            num_return_sequences=group,
            eos_token_id=list(policy.eos_ids),
            pad_token_id=policy.pad_id,
        )
        batching = ContinuousBatchingConfig(
            return_logprobs=True,
            seed=seed_from(uniforms_NT),
            max_requests_per_batch=self._batch_size,
            **self._cache_size(prompts, group, length),
        )
        base = policy.model.get_base_model()
        devices = [policy.model.device] if policy.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), merged(policy.model):  # transformers seeds the process's own generator
            outputs = list(base.generate_batch([list(p) for p in prompts], how, batching).values())
        if len(outputs) != rows or any(output.error for output in outputs):
            reason = next((output.error for output in outputs if output.error), "its thread ended")
            raise RuntimeError(f"rollout.engine continuous: {rows} completions were asked for: {reason}")
        samples = [self._sample(output) for output in outputs]
        return [samples[i : i + group] for i in range(0, rows, group)]

    def adapter_changed(self) -> None:
        """Nothing is kept of an adapter from one call of `sample` to the next."""

    def close(self) -> None:
        """Nothing is held."""

    def _sample(self, output) -> Sample:
        ids, logprobs = tuple(output.generated_tokens), tuple(output.logprobs)
        return Sample(ids, logprobs, ids[-1] not in self._policy.eos_ids, -sum(logprobs) / len(ids))

    def _cache_size(self, prompts, group: int, length: int) -> dict:
        """On a GPU a share of its memory; on a CPU what all rows need, as the kernel kills who takes too much."""
        if self._policy.model.device.type == "cuda":
            return {"max_memory_percent": SHARE_OF_GPU}
        pages = sum(group * ((len(prompt) + length) // PAGE + 2) for prompt in prompts)
        return {"page_size": PAGE, "num_blocks": pages, "max_batch_tokens": TOKENS_AT_ONCE}
