"""What sites find on public problems between exchanges, and whether an exchange would teach them.

With `exchange.schedule: adaptive` a site remembers its right answers until they are asked for, and tells which problems
it has such answers to and which it cannot solve, neither by itself nor with its pool. An exchange is worth it once it
would give right answers to enough of what sites cannot solve.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fedrlvr.protocol.records import Findings, PublicResponse
from fedrlvr.types import Group


class Notes:
    """What one site has found: `found` are right answers that it has not offered yet, by problem, newest first;
    `unsolved` are problems whose last group had no right answer, swapped ones included."""

    def __init__(self, max_per_problem: int):
        self._most = max_per_problem
        self.found: dict[str, list[PublicResponse]] = {}
        self.unsolved: set[str] = set()

    def remember(self, responses: Iterable[PublicResponse]) -> None:
        """Add new right answers. To one problem, they go before those that are known already."""
        by_problem: dict[str, list[PublicResponse]] = {}
        for response in responses:
            by_problem.setdefault(response.problem_id, []).append(response)
        for problem_id, new in by_problem.items():
            old = (response for response in self.found.get(problem_id, []) if response not in new)
            self.found[problem_id] = [*new, *old][: self._most]

    def mark(self, mixed: Sequence[Group]) -> None:
        """Note which of these groups, from which a step was taken, hold no right answer."""
        for group in mixed:
            if group.num_correct:
                self.unsolved.discard(group.problem.id)
            else:
                self.unsolved.add(group.problem.id)

    def take(self, problem_ids: Iterable[str]) -> list[PublicResponse]:
        """The answers to these problems, which count as offered from now on."""
        return [response for problem_id in problem_ids for response in self.found.pop(problem_id, [])]

    def kept(self) -> list[PublicResponse]:
        """Everything found, so that `replace` can put it back in the same order."""
        return [response for found in self.found.values() for response in found]

    def replace(self, found: Iterable[PublicResponse], unsolved: Iterable[str]) -> None:
        self.found, self.unsolved = {}, set(unsolved)
        self.remember(found)

    def told(self) -> Findings:
        return Findings(found=sorted(self.found), unsolved=sorted(self.unsolved))


class Need(NamedTuple):
    """What an exchange would be about: `problems` that some site cannot solve and another has an answer to, sorted, and
    the share of all pairs of a site and a public problem in which it would give the site its first right answer."""

    problems: list[str]
    share: float


def need(told: Mapping[str, Findings], public_problems: int) -> Need:
    """From what each site told last, of so many public problems in all."""
    wanted, pairs = set(), 0
    for site, own in told.items():
        others = {problem for other, theirs in told.items() if other != site for problem in theirs.found}
        helped = others & set(own.unsolved)
        wanted |= helped
        pairs += len(helped)
    return Need(sorted(wanted), pairs / (len(told) * public_problems) if told else 0.0)
