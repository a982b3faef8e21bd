"""`fedrlvr egress`: show what has left this site, what a job would let leave, or try the rules for answers."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.commands import egress_try
from fedrlvr.launch.experiment import site_job, spec_on
from fedrlvr.printable import one_line
from fedrlvr.privacy.egress_log import RELEASED, EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.report.outgoing import refusals, sent_by_kind, spent
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site.checks import check_delta
from fedrlvr.site.dry_run import Outgoing, dry_run
from fedrlvr.site.trial import TrialFailed
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    show = actions.add_parser("show", help="summarise the site's egress log and ledger")
    trial = actions.add_parser("dry-run", help="run one segment here and show what would leave; nothing is sent")
    egress_try.add_arguments(
        actions.add_parser("try", help="see which answers a policy lets leave beside private texts")
    )
    for action in (show, trial):
        action.add_argument("--site-config", type=Path, required=True, metavar="FILE", help="the site's fedrlvr.yaml")
    trial.add_argument("--config", type=Path, metavar="PRESET", help="the job's preset")
    trial.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of its settings")
    trial.add_argument("--tiny", action="store_true", help="use its tiny part")
    trial.add_argument("--adapter", type=Path, metavar="DIR", help="start from this adapter (default: the job's first)")
    trial.add_argument("--full", type=Path, metavar="DIR", help="write what would leave into this new folder")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "try":
        return egress_try.run(arguments)
    path = arguments.site_config
    config = load_settings(SiteConfig, path)
    if config.policy is None:
        raise SettingsError(f"{path}: names no policy, so nothing is filtered or logged; set policy: FILE")
    policy = load_settings(SitePolicy, config.policy)
    console = Screen()
    if arguments.action == "show":
        return _show(config, policy, console)
    return _dry_run(arguments, config, policy, console)


def _show(config: SiteConfig, policy: SitePolicy, console: Screen) -> int:
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


def _adapter(file: Path) -> Adapter:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise SettingsError(f"{file}: not a safetensors file ({error}); expected a PEFT adapter's folder") from None


def _dry_run(arguments: argparse.Namespace, config: SiteConfig, policy: SitePolicy, console: Screen) -> int:
    config.check_paths()
    job = site_job(config, arguments.config, arguments.set, arguments.tiny)
    spec = spec_on(config.public_problems, config.test_problems, job)
    adapter = _adapter(arguments.adapter / "adapter_model.safetensors") if arguments.adapter else None
    if arguments.full:
        arguments.full.mkdir(parents=True)
    try:
        with console.status("the worker evaluates, trains one segment, proposes and submits"):
            sent, costs = dry_run(spec, config, policy, adapter)
    except (Refused, TrialFailed) as reason:
        console.print(f"nothing would leave this site for this job: {reason}", soft_wrap=True)
        return 1
    console.print(_would_leave(sent))
    for cost in costs:
        console.print(cost, soft_wrap=True)
    if arguments.full:
        for number, (entry, payload) in enumerate(sent):
            if payload is not None:
                ending = "safetensors" if entry["kind"] == "adapter" else "json"
                (arguments.full / f"{number}-{entry['task']}-{entry['kind']}.{ending}").write_bytes(payload)
        console.print(f"written to {arguments.full}", soft_wrap=True)
    console.print("nothing was sent, and log and ledger are unchanged")
    return 0


def _would_leave(sent: Iterable[Outgoing]) -> Table:
    table = Table("task", "kind", "would", "things", "bytes", "sha256", "rules")
    for entry, _ in sent:
        if entry["decision"] == RELEASED:
            rules = ", ".join(f"{n} {v:.3g}" for n, v in entry["rules"].items() if v) or "-"
            cells = ("leave", f"{entry['count']:,}", f"{entry['bytes']:,}", entry["sha256"][:12], rules)
        else:
            cells = ("stay", "-", "-", "-", entry["reason"])
        table.add_row(entry["task"], entry["kind"], *cells)
    return table
