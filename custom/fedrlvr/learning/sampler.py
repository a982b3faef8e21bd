"""Sampling completions: prefill each prompt once, expand its cache to G rows, and drop rows that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.model import Policy


@dataclass(frozen=True)
class Sample:
    """Token ids with the end token, their log-probabilities at the sampling temperature, and mean entropy (nats)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    entropy: float


class CachedSampler:
    """Samples from any `AutoModelForCausalLM` whose cache is a `DynamicCache`.

    A row depends only on its own uniforms (inverse CDF). So the batch size, and which rows end early, do not change the
    samples, except for floating-point rounding.
    """

    def __init__(self, policy: Policy, batch_size: int):
        self.policy, self.batch_size = policy, batch_size

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """N / len(prompts) samples for each prompt, at most T tokens long. `uniforms_NT` in [0, 1) decides each token
        of each row, so results repeat."""
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
        logits, cache, mask = self._prefill(prompts, group)
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

    def _prefill(self, prompts, group: int) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
        """Logits after each prompt, cache and attention mask, each repeated for `group` rows per prompt."""
        model = self.policy.model
        batch = collate([Row(prompt, ()) for prompt in prompts], self.policy.pad_id, model.device)
        cache = DynamicCache(config=model.config)
        logits = model(**batch.inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        cache.batch_repeat_interleave(group)
        return logits.repeat_interleave(group, 0), cache, batch.attention_mask.repeat_interleave(group, 0)


def _draw(logits_NV: torch.Tensor, temperature: float, uniforms_N: torch.Tensor):
    """Token, log-probability and entropy for each row; the first token whose cumulative probability exceeds u."""
    logprobs = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    probabilities = logprobs.exp()
    cumulative = probabilities.cumsum(-1)
    target = uniforms_N.unsqueeze(-1) * cumulative[:, -1:]  # the sum may differ from 1 by rounding
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=logits_NV.shape[-1] - 1)
    entropy = -(probabilities * logprobs.clamp(min=-1e4)).sum(-1)
    return token, logprobs.gather(-1, token.unsqueeze(-1)).squeeze(-1), entropy


def _samples(tokens, logprobs, entropies, lengths, ended) -> list[Sample]:
    tokens, logprobs, entropies = tokens.cpu().tolist(), logprobs.cpu().tolist(), entropies.cpu()
    return [
        Sample(tuple(tokens[i][:n]), tuple(logprobs[i][:n]), truncated=not over, entropy=float(entropies[i, :n].mean()))
        for i, (n, over) in enumerate(zip(lengths.tolist(), ended.tolist(), strict=True))
    ]
