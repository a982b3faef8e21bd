"""What left a site, by kind, and what it spent of its privacy budget: from the site's own log and ledger."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise
from fedrlvr.privacy.adapter_release import budget_in_words
from fedrlvr.privacy.egress_log import RELEASED
from fedrlvr.privacy.ledger import Ledger
from fedrlvr.privacy.policy import SitePolicy

# What a table of `Sent.counts` says.
EXPLAINED = (
    "left, refused: how many messages. things, bytes: what those that left held (tensors, answers, records, errors). "
    "counted by rule: how many things it took out; ..._told: it let out; clipped: adapters that it shortened."
)


@dataclass
class Sent:
    """Messages of one kind. `things` and `bytes` are of those that were released; `rules` says how many things each
    rule took out of them, or what it measured."""

    released: int = 0
    refused: int = 0
    things: int = 0
    bytes: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def counts(self) -> tuple[str, ...]:
        """Released, refused, things and bytes, and in words what rules counted."""
        taken = ", ".join(f"{name} {count}" for name, count in self.rules.items() if count) or "-"
        return (*(f"{count:,}" for count in (self.released, self.refused, self.things, self.bytes)), taken)


def sent_by_kind(entries: Iterable[dict]) -> dict[tuple[str, str], Sent]:
    """By job and kind, of an egress log's entries."""
    sent: dict[tuple[str, str], Sent] = {}
    for entry in entries:
        one = sent.setdefault((entry["job"], entry["kind"]), Sent())
        if entry["decision"] != RELEASED:
            one.refused += 1
            continue
        one.released += 1
        one.things += entry["count"]
        one.bytes += entry["bytes"]
        one.rules.update({name: count for name, count in entry["rules"].items() if isinstance(count, int)})
    return sent


def refusals(entries: Iterable[dict]) -> list[str]:
    """In words, what was refused, how often and why."""
    refused = Counter((entry["kind"], entry["reason"]) for entry in entries if entry["decision"] != RELEASED)
    return [f"refused {times} x {kind}: {reason}" for (kind, reason), times in refused.items()]


def spent(policy: SitePolicy, seen: str) -> list[str]:
    """In words, the cost of all charges on each budget. `seen` is the hash of the ledger's last line that the egress
    log knows. Raises BrokenLog."""
    if not policy.ledger.exists() and not seen:
        return []
    ledger, said = Ledger(policy.ledger, site=None), []
    ledger.check_knows(seen)
    for sources in ledger.budgets():
        models = ", ".join(sorted({source.model for source in sources}))
        for kind, rules in ((SiteNoise, policy.adapters), (ExampleNoise, policy.training)):
            if charges := ledger.charges(sources[0], kind):
                said.append(f"{models}: {budget_in_words(charges, rules)}")
    return said
