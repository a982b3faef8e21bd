"""`fedrlvr egress dry-run`: run one segment of a job here, and show what would leave. Nothing is sent."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.launch.experiment import site_job, spec_on
from fedrlvr.privacy.egress_log import RELEASED
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.dry_run import Outgoing, dry_run
from fedrlvr.site.trial import TrialFailed
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter


def _adapter(file: Path) -> Adapter:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise SettingsError(f"{file}: not a safetensors file ({error}); expected a PEFT adapter's folder") from None


def try_job(arguments: argparse.Namespace, config: SiteConfig, policy: SitePolicy, console: Screen) -> int:
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
