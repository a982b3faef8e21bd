"""Sampling completions: prefill each prompt once, expand its cache to G rows, and drop rows as they finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import DynamicCache

from fedrlvr.learning.model import Policy


@dataclass(frozen=True)
class Sample:
    """Token ids (the end token included), their log-probabilities at the sampling temperature, and mean entropy
    (nats)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    entropy: float


class Generator(Protocol):
    """A rollout engine. `uniforms_NT` in [0, 1) decides every token, row by row, so results repeat."""

    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """N / len(prompts) samples for each prompt, at most T tokens long."""


class CachedSampler:
    """Samples from any `AutoModelForCausalLM` whose cache is a `DynamicCache`.

    Every row is decided by its own uniforms alone (inverse CDF), so neither the batch size nor which rows finish early
    changes what is sampled, beyond floating-point rounding.
    """

    def __init__(self, policy: Policy, batch_size: int):
        self.policy = policy
        self.batch_size = batch_size

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        group = len(uniforms_NT) // len(prompts)
        chunk = max(1, self.batch_size // group)
        groups: list[list[Sample]] = []
        for start in range(0, len(prompts), chunk):
            part = prompts[start : start + chunk]
            rows = self._decode(part, group, temperature, uniforms_NT[start * group : (start + len(part)) * group])
            groups += [rows[i : i + group] for i in range(0, len(rows), group)]
        return groups

    def _decode(self, prompts, group: int, temperature: float, uniforms_NT: torch.Tensor) -> list[Sample]:
        model, device = self.policy.model, self.policy.model.device
        logits, cache, mask = self._prefill(prompts, group, device)
        count, length = uniforms_NT.shape
        tokens = torch.zeros((count, length), dtype=torch.long, device=device)
        logprobs, entropies = (torch.zeros((count, length), device=device) for _ in range(2))
        lengths = torch.full((count,), length, device=device)
        ended = torch.zeros(count, dtype=torch.bool, device=device)
        uniforms_NT = uniforms_NT.to(device)
        end = torch.tensor(self.policy.eos_ids, device=device)
        alive = torch.arange(count, device=device)
        for t in range(length):
            token, logprobs[alive, t], entropies[alive, t] = _draw(logits, temperature, uniforms_NT[alive, t])
            tokens[alive, t] = token
            done = torch.isin(token, end)
            lengths[alive[done]] = t + 1
            ended[alive[done]] = True
            if t + 1 == length or bool(done.all()):
                break
            if bool(done.any()):
                keep = (~done).nonzero().squeeze(-1)
                cache.batch_select_indices(keep)
                alive, mask, token = alive[keep], mask[keep], token[keep]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            logits = model(
                input_ids=token.unsqueeze(1),
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                position_ids=mask.sum(-1, keepdim=True) - 1,
            ).logits[:, -1]
        return _samples(tokens, logprobs, entropies, lengths, ended)

    def _prefill(self, prompts, group: int, device):
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.policy.pad_id)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        cache = DynamicCache(config=self.policy.model.config)
        logits = self.policy.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            logits_to_keep=1,
        ).logits[:, -1]
        cache.batch_repeat_interleave(group)
        return logits.repeat_interleave(group, 0), cache, mask.repeat_interleave(group, 0)


def _draw(logits_NV: torch.Tensor, temperature: float, uniforms_N: torch.Tensor):
    """Token, log-probability and entropy per row: the first token at which the cumulative probability exceeds u."""
    logprobs = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    probabilities = logprobs.exp()
    cumulative = probabilities.cumsum(-1)
    target = uniforms_N.unsqueeze(-1) * cumulative[:, -1:]  # rounding may leave the sum a little off 1
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=logits_NV.shape[-1] - 1)
    entropy = -(probabilities * logprobs.clamp(min=-1e4)).sum(-1)
    return token, logprobs.gather(-1, token.unsqueeze(-1)).squeeze(-1), entropy


def _samples(tokens, logprobs, entropies, lengths, ended) -> list[Sample]:
    tokens, logprobs, entropies = tokens.cpu().tolist(), logprobs.cpu().tolist(), entropies.cpu()
    return [
        Sample(tuple(tokens[i][:n]), tuple(logprobs[i][:n]), truncated=not over, entropy=float(entropies[i, :n].mean()))
        for i, (n, over) in enumerate(zip(lengths.tolist(), ended.tolist(), strict=True))
    ]
