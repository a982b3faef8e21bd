"""Who helped whom: from the server's counts of answers that were sent, and from the sites' own logs of swaps."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from fedrlvr.protocol.records import Count, Name
from fedrlvr.report.cells import Shaded
from fedrlvr.types import Problem

NO_LABEL = "(none)"
UNKNOWN = "(not known)"
MOST_EXAMPLES = 8


class Written(BaseModel):
    """A completion with the verifier's word on it."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
    text: str
    reward: float
    reason: str


class Swap(Written):
    """At the site `receiver`, this right answer of `origin` took the place of `instead_of`."""

    receiver: str = ""
    run: str = ""
    problem_id: Name
    segment: Count
    origin: Name
    instead_of: Written


@dataclass
class Helped:
    """How often answers of one site went to another, and how many of each site were to problems of each label."""

    by_site: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of whom -> to whom
    by_label: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of whom -> label

    @property
    def total(self) -> int:
        return sum(counts.total() for counts in self.by_site.values())

    def of_whom(self, sites: Sequence[str]) -> Shaded:
        """Rows helped, columns were helped. No site helps itself."""
        rows = ((f"of {one}", [None if to == one else self.by_site[one][to] for to in sites]) for one in sites)
        return Shaded.of_counts("answers", [f"to {site}" for site in sites], rows)

    def about_what(self, sites: Sequence[str]) -> Shaded | None:
        """None where the problems' labels are not known."""
        labels = sorted({label for counts in self.by_label.values() for label in counts})
        if labels in ([], [UNKNOWN]):
            return None
        rows = ((f"of {one}", [self.by_label[one][label] for label in labels]) for one in sites)
        return Shaded.of_counts("answers", labels, rows)


def label_of(problems: Mapping[str, Problem], problem_id: str) -> str:
    problem = problems.get(problem_id)
    return UNKNOWN if problem is None else problem.label or NO_LABEL


def sent_answers(events: Iterable[dict], problems: Mapping[str, Problem]) -> Helped:
    """What the server has passed on, and to problems of which labels sites have offered answers."""
    found = Helped()
    for event in events:
        if event["event"] != "exchange":
            continue
        for receiver, senders in event.get("pools", {}).items():
            for sender, count in senders.items():
                found.by_site[sender][receiver] += count
        for sender, offered in event.get("offers", {}).items():
            for problem_id, count in offered.items():
                found.by_label[sender][label_of(problems, problem_id)] += count
    return found


def swapped_in(swaps: Iterable[Swap], problems: Mapping[str, Problem]) -> Helped:
    """Whose answers took how many places."""
    found = Helped()
    for swap in swaps:
        found.by_site[swap.origin][swap.receiver] += 1
        found.by_label[swap.origin][label_of(problems, swap.problem_id)] += 1
    return found


@dataclass(frozen=True)
class Example:
    """A public problem, and what one swap replaced there by what."""

    problem: Problem
    swap: Swap


def examples(swaps: Iterable[Swap], problems: Mapping[str, Problem]) -> list[Example]:
    """One swap for each label and receiving site, those of different problems first; the last one each, as a site
    writes more like an answer the longer it has learnt."""
    last: dict[tuple[str, str], Swap] = {}
    for swap in swaps:
        if swap.problem_id in problems and swap.instead_of.reward < 1:
            last[label_of(problems, swap.problem_id), swap.receiver] = swap
    seen: set[str] = set()
    new, again = [], []
    for _, swap in sorted(_dealt(last)):
        (again if swap.problem_id in seen else new).append(Example(problems[swap.problem_id], swap))
        seen.add(swap.problem_id)
    return [*new, *again][:MOST_EXAMPLES]


def _dealt(last: Mapping[tuple[str, str], Swap]) -> list[tuple[tuple[int, str, str], Swap]]:
    """In an order in which every label has had a turn before one has a second; the receivers change with it."""
    labels, receivers = (sorted({key[place] for key in last}) for place in (0, 1))
    return [
        (((receivers.index(receiver) - labels.index(label)) % len(receivers), label, receiver), swap)
        for (label, receiver), swap in last.items()
    ]
