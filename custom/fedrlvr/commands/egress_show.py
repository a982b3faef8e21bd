"""`fedrlvr egress show`: what has left this site by its log, and what its ledger says was spent."""

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Column, Table

from fedrlvr.printable import one_line
from fedrlvr.privacy.egress_log import RELEASED, EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.report.outgoing import EXPLAINED, refusals, sent_by_kind, spent
from fedrlvr.report.screen import Screen
from fedrlvr.site.checks import check_delta
from fedrlvr.site_config import SiteConfig


def show(config: SiteConfig, policy: SitePolicy, console: Screen) -> int:
    """Exit code 1 where the ledger cannot be trusted. Raises BrokenLog."""
    log = EgressLog(policy.log)
    entries = list(log.entries())
    console.print(f"log: {policy.log}", soft_wrap=True)
    if not entries:
        console.print("nothing has left, and nothing was refused")
    else:
        console.print(f"{len(entries)} messages, {entries[0]['time']} to {entries[-1]['time']}\n")
        for job in dict.fromkeys(entry["job"] for entry in entries):
            _show_job(job, [entry for entry in entries if entry["job"] == job], console)
        console.print(EXPLAINED)
    if (delta := check_delta(config, policy)).status != "ok":
        console.print(f"{delta.status}: {delta.text}", style="yellow", soft_wrap=True)
    return _show_ledger(policy, log.last_ledger(), console)


def _show_job(job: str, entries: Sequence[dict], console: Screen) -> None:
    """A table that fits 80 columns: what is longer goes on in the next line."""
    console.print(one_line(f"job {job}"))
    counts = (Column(name, justify="right") for name in ("left", "refused", "things", "bytes"))
    columns = Column("kind", overflow="fold"), *counts, Column("counted by rule", overflow="fold")
    table = Table(*columns, box=SIMPLE, show_edge=False)
    for (_, kind), sent in sent_by_kind(entries).items():
        *numbers, rules = sent.counts()
        table.add_row(kind, *numbers, rules.replace(", ", "\n"))
    console.print(table)
    for line in [*_errors(entries), *refusals(entries)]:
        console.print(one_line(line))
    console.print()


def _errors(entries: Sequence[dict]) -> list[str]:
    """In words, what went wrong, how often and why."""
    errors = (entry for entry in entries if (entry["kind"], entry["decision"]) == ("error", RELEASED))
    said = Counter((entry.get("task", "a task"), entry.get("reason") or "the log does not say why") for entry in errors)
    return [f"error {times} x {task}: {reason}" for (task, reason), times in said.items()]


def _show_ledger(policy: SitePolicy, seen: str, console: Screen) -> int:
    """`seen`: the hash of the ledger's last line that the log knows."""
    if not policy.ledger.exists() and not seen:
        return 0
    console.print(f"ledger: {policy.ledger}", soft_wrap=True)
    try:
        for line in spent(policy, seen):
            console.print(line)
    except Refused as reason:
        console.print(f"{reason}", style="red", soft_wrap=True)
        return 1
    return 0
