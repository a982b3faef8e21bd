"""Who gets which public answers: the server's pooling, and the pool that a site keeps."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest

import numpy as np

from fedrlvr.config import ExchangeSettings
from fedrlvr.protocol.records import PooledResponse, PublicResponse
from fedrlvr.types import Completion


def pool_for(
    receiver: str, offers: Mapping[str, Sequence[PublicResponse]], settings: ExchangeSettings
) -> list[PooledResponse]:
    """The answers `receiver` gets, of what each site offers: none of its own, no text twice, at most `max_per_site` of
    a site and `max_per_prompt` in all for a prompt. Sites take turns, so that no one site fills a prompt's quota."""
    by_prompt: dict[str, dict[str, list[PublicResponse]]] = defaultdict(lambda: defaultdict(list))
    for site in sorted(offers.keys() - {receiver}):
        for response in dict.fromkeys(offers[site]):
            by_prompt[response.problem_id][site].append(response)
    pool: list[PooledResponse] = []
    for _, by_site in sorted(by_prompt.items()):
        per_site = ([(response, site) for response in by_site[site][: settings.max_per_site]] for site in by_site)
        first: dict[PublicResponse, str] = {}  # the first site to say it
        for response, site in filter(None, chain.from_iterable(zip_longest(*per_site))):
            first.setdefault(response, site)
        chosen = islice(first.items(), settings.max_per_prompt)
        pool += [(site, response) for response, site in chosen]
    return pool


class ResponsePool:
    """Other sites' answers, verified, by public problem. With `keep=False` each exchange replaces the one before."""

    def __init__(self, keep: bool, max_per_prompt: int):
        self.keep, self.max_per_prompt = keep, max_per_prompt
        self._completions: dict[str, list[Completion]] = {}

    def add(self, completions: Iterable[Completion]) -> None:
        """Newest answers go first and push out the oldest: they are closest to what the sites do now."""
        incoming: dict[str, list[Completion]] = defaultdict(list)
        for completion in completions:
            incoming[completion.problem.id].append(completion)
        if not self.keep:
            self._completions = {}
        for problem_id, new in incoming.items():
            contents = {_content(completion) for completion in new}
            old = [c for c in self._completions.get(problem_id, []) if _content(c) not in contents]
            self._completions[problem_id] = (new + old)[: self.max_per_prompt]

    def draw(self, problem_id: str, random: np.random.Generator) -> list[Completion]:
        """All kept answers to one problem in random order, so that repeated steps do not always meet the same ones."""
        kept = self._completions.get(problem_id, [])
        return [kept[int(i)] for i in random.permutation(len(kept))]

    def completions(self) -> list[Completion]:
        """Everything kept, so that `replace` can put it back in the same order."""
        return [completion for kept in self._completions.values() for completion in kept]

    def replace(self, completions: Iterable[Completion]) -> None:
        self._completions = {}
        self.add(completions)


def _content(completion: Completion) -> tuple[str, int]:
    return completion.text, completion.problem.variant
