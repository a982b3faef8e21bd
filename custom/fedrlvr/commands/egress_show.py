"""`fedrlvr egress show`: what has left this site by its log, and what its ledger says was spent."""

from collections.abc import Iterable

from rich.table import Table

from fedrlvr.printable import one_line
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.report.outgoing import refusals, sent_by_kind, spent
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
        console.print(f"{len(entries)} messages, {entries[0]['time']} to {entries[-1]['time']}")
        console.print(_table(entries))
        for line in refusals(entries):
            console.print(one_line(line), soft_wrap=True)
    if (delta := check_delta(config, policy)).status != "ok":
        console.print(f"{delta.status}: {delta.text}", style="yellow", soft_wrap=True)
    return _show_ledger(policy, log.last_ledger(), console)


def _table(entries: Iterable[dict]) -> Table:
    table = Table("job", "kind", "released", "refused", "things", "bytes", "counted by rule")
    for (job, kind), sent in sent_by_kind(entries).items():
        table.add_row(job, kind, *sent.counts())
    return table


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
