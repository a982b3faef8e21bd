"""`fedrlvr egress show`: what has left this site by its log, and what its ledger says was spent."""

from collections import Counter
from collections.abc import Iterable

from rich.table import Table

from fedrlvr.printable import one_line
from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise
from fedrlvr.privacy.adapter_release import budget_in_words
from fedrlvr.privacy.egress_log import RELEASED, EgressLog
from fedrlvr.privacy.ledger import Ledger
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
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
        refused = Counter((entry["kind"], entry["reason"]) for entry in entries if entry["decision"] != RELEASED)
        for (kind, reason), times in refused.items():
            console.print(one_line(f"refused {times} x {kind}: {reason}"), soft_wrap=True)
    if (delta := check_delta(config, policy)).status != "ok":
        console.print(f"{delta.status}: {delta.text}", style="yellow", soft_wrap=True)
    return _show_ledger(policy, log.last_ledger(), console)


def _table(entries: Iterable[dict]) -> Table:
    table = Table("job", "kind", "released", "refused", "things", "bytes", "counted by rule")
    groups: dict[tuple[str, str], list[dict]] = {}
    for entry in entries:
        groups.setdefault((entry["job"], entry["kind"]), []).append(entry)
    for (job, kind), group in groups.items():
        released = [entry for entry in group if entry["decision"] == RELEASED]
        rules: Counter = Counter()
        for entry in released:
            rules.update({name: n for name, n in entry["rules"].items() if isinstance(n, int)})
        taken = ", ".join(f"{name} {count}" for name, count in rules.items() if count) or "-"
        things, size = (sum(entry[name] for entry in released) for name in ("count", "bytes"))
        counts = (len(released), len(group) - len(released), things, size)
        table.add_row(job, kind, *(f"{count:,}" for count in counts), taken)
    return table


def _show_ledger(policy: SitePolicy, seen: str, console: Screen) -> int:
    """`seen`: the hash of the ledger's last line that the log knows."""
    if not policy.ledger.exists() and not seen:
        return 0
    console.print(f"ledger: {policy.ledger}", soft_wrap=True)
    ledger = Ledger(policy.ledger, site=None)
    try:
        ledger.check_knows(seen)
        for sources in ledger.budgets():
            models = ", ".join(sorted({source.model for source in sources}))
            for kind, rules in ((SiteNoise, policy.adapters), (ExampleNoise, policy.training)):
                if charges := ledger.charges(sources[0], kind):
                    console.print(f"{models}: {budget_in_words(charges, rules)}")
    except Refused as reason:
        console.print(f"{reason}", style="red", soft_wrap=True)
        return 1
    return 0
