"""The sampling loop: each prompt is read once for all its rows, and rows that end give their places to waiting ones."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from fedrlvr.learning.cache import RowCache
from fedrlvr.learning.draw import draw
from fedrlvr.learning.generator import Sample
from fedrlvr.learning.model import Policy

PREFILL_TOKENS = 4096  # of prompts in one forward pass, padding included, unless a single one is longer


class Decoding:
    """N completions in the making, N / len(prompts) for each prompt. A row is a number below N; rows of one prompt are
    beside each other. Numbers of rows, steps and lengths are on the CPU, where they decide what is done next."""

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[tuple[int, ...]],
        temperature: float,
        uniforms_NT: torch.Tensor,
        top_p: float = 1.0,
    ):
        self.policy, self.prompts, self.temperature, self.top_p = policy, prompts, temperature, top_p
        self.model, self.device = policy.model, policy.model.device
        count, self.length = uniforms_NT.shape
        self.group = count // len(prompts)
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.columns = int(self.prompt_lengths.max()) + self.length  # of the longest row that there can be
        self.uniforms_NT = uniforms_NT.to(self.device)
        self.end = torch.tensor(policy.eos_ids, dtype=torch.long, device=self.device)
        self.tokens_NT = torch.zeros((count, self.length), dtype=torch.long, device=self.device)
        self.logprobs_NT = torch.zeros((count, self.length), device=self.device)
        self.entropies_N = torch.zeros(count, device=self.device)  # summed over a row's tokens
        self.finished_N = torch.zeros(count, dtype=torch.long)  # tokens of a row that has ended, else 0

    @property
    def unfinished(self) -> bool:
        return not bool(self.finished_N.all())

    def run(self, places: int) -> None:
        """Sample every unfinished row from its beginning to its end, at most `places` rows at once."""
        waiting = (self.finished_N == 0).nonzero().squeeze(-1)
        self.entropies_N[waiting.to(self.device)] = 0
        self._cache = RowCache(self.model.config, places, self.columns)
        self._rows = self._steps = torch.zeros(0, dtype=torch.long)  # of those in the cache: number, tokens so far
        self._logits: torch.Tensor | None = None  # of their next tokens
        while len(waiting) or len(self._rows):
            count = self._how_many_may_enter(waiting, places)
            if count:
                self._let_in(waiting[:count])
                waiting = waiting[count:]
            token = self._draw()
            stays = self._note_ended(token)
            token = self._close_up(stays, token)
            self._logits = self._next(token) if len(token) else None

    def samples(self) -> list[Sample]:
        """Those of all rows, which are finished."""
        tokens, logprobs = self.tokens_NT.tolist(), self.logprobs_NT.tolist()
        rows = zip(tokens, logprobs, self.finished_N.tolist(), self.entropies_N.tolist(), strict=True)
        return [
            Sample(tuple(ids[:n]), tuple(values[:n]), ids[n - 1] not in self.policy.eos_ids, entropy / n)
            for ids, values, n, entropy in rows
        ]

    def _how_many_may_enter(self, waiting: torch.Tensor, places: int) -> int:
        """How many of the first waiting rows are let in now. Each time costs a forward pass, and a prompt is read again
        for rows that enter later. So it is done once the next prompt's rows have room, or a quarter of all places is
        free, but not for fewer than one place in 16."""
        free = places - len(self._rows)
        if len(waiting) <= free:
            return len(waiting)
        prompts = waiting[: free + 1] // self.group
        if free < max(1, min(self.group, places // 4), places // 16):
            return 0
        whole = int((prompts != prompts[-1]).sum())  # without the prompt whose rows do not all have room
        return whole or free

    def _let_in(self, rows: torch.Tensor) -> None:
        numbers, place = (rows // self.group).unique(return_inverse=True)
        for start, stop in self._forward_passes(numbers):
            prompts = numbers[start:stop]
            cache, logits = self._read([self.prompts[i] for i in prompts.tolist()])
            these = (start <= place) & (place < stop)
            index = (place[these] - start).to(self.device)
            self._cache.add(cache, index)
            new = logits[index]
            self._logits = new if self._logits is None else torch.cat([self._logits, new])
            self._rows = torch.cat([self._rows, rows[these]])
            self._steps = torch.cat([self._steps, torch.zeros_like(rows[these])])

    def _forward_passes(self, numbers: torch.Tensor) -> list[tuple[int, int]]:
        """Which of these prompts are read together: from, to."""
        parts, start, longest = [], 0, 0
        for i, length in enumerate(self.prompt_lengths[numbers].tolist()):
            longest = max(longest, length)
            if i > start and longest * (i + 1 - start) > PREFILL_TOKENS:
                parts.append((start, i))
                start, longest = i, length
        return [*parts, (start, len(numbers))]

    def _read(self, prompts: list[tuple[int, ...]]) -> tuple[DynamicCache, torch.Tensor]:
        """The prompts' keys and values, and the logits of their next tokens. Shorter prompts are padded on the left."""
        width = max(map(len, prompts))
        ids = torch.tensor([(self.policy.pad_id,) * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.arange(width) >= torch.tensor([width - len(prompt) for prompt in prompts]).unsqueeze(-1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        return cache, self._logits_of(ids, mask, positions, cache)

    def _draw(self) -> torch.Tensor:
        """A token for each row in the cache."""
        rows, steps = self._rows.to(self.device), self._steps.to(self.device)
        token, logprob, entropy = draw(self._logits, self.temperature, self.uniforms_NT[rows, steps], self.top_p)
        self.tokens_NT[rows, steps], self.logprobs_NT[rows, steps] = token, logprob
        self.entropies_N[rows] += entropy
        self._steps = self._steps + 1
        return token

    def _note_ended(self, token: torch.Tensor) -> torch.Tensor:
        """Whether each row in the cache goes on."""
        ended = torch.isin(token, self.end).cpu() | (self._steps == self.length)
        self.finished_N[self._rows[ended]] = self._steps[ended]
        return ~ended

    def _close_up(self, stays: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Only the rows that stay, and their tokens: the last ones take the places of those that have ended."""
        count = int(stays.sum())
        if count == len(stays):
            return token
        order = torch.arange(count)
        order[~stays[:count]] = stays[count:].nonzero().squeeze(-1) + count
        self._rows, self._steps = self._rows[order], self._steps[order]
        longest = int(self._row_lengths().max()) if count else 1
        self._cache.keep(order, longest - 1)  # the newest token is not in it yet
        return token[order.to(self.device)]

    def _next(self, token: torch.Tensor) -> torch.Tensor:
        """The logits after each row's newest token."""
        lengths, width = self._row_lengths().unsqueeze(-1), self._cache.width + 1
        mask = torch.arange(width) >= width - lengths
        return self._logits_of(token.unsqueeze(-1), mask, lengths - 1, self._cache)

    def _row_lengths(self) -> torch.Tensor:
        return self.prompt_lengths[self._rows // self.group] + self._steps

    def _logits_of(self, ids, mask, positions, cache: DynamicCache) -> torch.Tensor:
        return self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=positions.to(self.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
