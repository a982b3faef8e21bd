"""Who gets which public answers: the server's pooling, and the pool a site may keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fedrlvr.config import ExchangeSettings
from fedrlvr.types import PublicResponse


def pool_for(receiver: str, offers: Iterable[PublicResponse], settings: ExchangeSettings) -> list[PublicResponse]:
    """The answers `receiver` gets: none of its own, no text twice, at most `max_per_site` of a site and
    `max_per_prompt` in all for a prompt. Sites take turns, so that no one site fills a prompt's quota.
    """
    by_prompt: dict[str, dict[str, list[PublicResponse]]] = {}
    for offer in offers:
        if offer.site != receiver:
            by_prompt.setdefault(offer.problem_id, {}).setdefault(offer.site, []).append(offer)
    pool: list[PublicResponse] = []
    for problem_id in sorted(by_prompt):
        seen: set[tuple[str, int]] = set()
        per_site = [
            _distinct(by_prompt[problem_id][site], settings.max_per_site) for site in sorted(by_prompt[problem_id])
        ]
        for offer in _in_turns(per_site):
            if _content(offer) not in seen and len(seen) < settings.max_per_prompt:
                seen.add(_content(offer))
                pool.append(offer)
    return pool


class ResponsePool:
    """Verified answers of other sites by public problem. With `keep=False` each exchange replaces the one before."""

    def __init__(self, keep: bool, max_per_prompt: int):
        self.keep = keep
        self.max_per_prompt = max_per_prompt
        self._answers: dict[str, list[PublicResponse]] = {}

    def add(self, answers: Iterable[PublicResponse]) -> None:
        """Newest answers go first and push out the oldest: they are closest to what the sites do now."""
        incoming: dict[str, list[PublicResponse]] = {}
        for answer in answers:
            incoming.setdefault(answer.problem_id, []).append(answer)
        if not self.keep:
            self._answers = {}
        for problem_id, new in incoming.items():
            contents = {_content(answer) for answer in new}
            old = [answer for answer in self._answers.get(problem_id, []) if _content(answer) not in contents]
            self._answers[problem_id] = (new + old)[: self.max_per_prompt]

    def draw(self, problem_id: str, random: np.random.Generator) -> list[PublicResponse]:
        """All kept answers to one problem in random order, so that repeated steps do not always meet the same ones."""
        answers = self._answers.get(problem_id, [])
        return [answers[int(i)] for i in random.permutation(len(answers))]

    def answers(self) -> list[PublicResponse]:
        """Everything kept, so that `replace` can put it back in the same order."""
        return [answer for kept in self._answers.values() for answer in kept]

    def replace(self, answers: Iterable[PublicResponse]) -> None:
        self._answers = {}
        for answer in answers:
            self._answers.setdefault(answer.problem_id, []).append(answer)

    def __len__(self) -> int:
        return sum(len(answers) for answers in self._answers.values())


def _content(answer: PublicResponse) -> tuple[str, int]:
    return answer.text, answer.variant


def _distinct(offers: Sequence[PublicResponse], limit: int) -> list[PublicResponse]:
    return list({_content(offer): offer for offer in offers}.values())[:limit]


def _in_turns(lists: Sequence[Sequence[PublicResponse]]) -> Iterable[PublicResponse]:
    for turn in range(max(map(len, lists), default=0)):
        yield from (offers[turn] for offers in lists if turn < len(offers))
