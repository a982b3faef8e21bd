"""The checks of `fedrlvr doctor`, one after the other, as lines on the screen."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.text import Text

from fedrlvr.config import JobConfig
from fedrlvr.flare.site.site_checks import check_privacy, check_server
from fedrlvr.launch.experiment import site_job, spec_on
from fedrlvr.printable import counted
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site.admission import check_admitted
from fedrlvr.site.checks import (
    Finding,
    check_deepspeed,
    check_extras,
    check_length,
    check_machine,
    check_problems,
    check_versions,
    count_private,
)
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site.memory_check import check_step_memory
from fedrlvr.site.rehearsal import rehearse
from fedrlvr.site.trial import TrialFailed
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks.task import VerifierFault

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def check_up(arguments: argparse.Namespace) -> int:
    """Run all checks and show what they find. Returns how many failed."""
    console = Screen()
    counts: Counter[str] = Counter()
    for finding in _findings(arguments, console):
        _print(finding, console)
        counts[finding.status] += 1
    warned = f", but for {counted(counts['warning'], 'warning')}" if counts["warning"] else ""
    failed = counts["failed"]
    console.print(f"{failed} to fix before this site can take part" if failed else f"this site is ready{warned}")
    return failed


def _findings(arguments: argparse.Namespace, console: Screen) -> Iterator[Finding]:
    """The findings of each check. If one fails, the later checks that do not depend on it still run."""
    yield from check_versions(arguments.constraints)
    path = arguments.site_config

    def job() -> JobConfig:
        return site_job(config, arguments.config, arguments.set, arguments.tiny)

    try:
        config = load_settings(SiteConfig, path)
        config.check_paths()
        fingerprint = model_fingerprint(config.model_path)
    except (SettingsError, OSError) as error:
        yield Finding("site file", "failed", str(error), "correct it first; nothing else can be checked before")
        return
    yield Finding("site file", "ok", f"{path}, model {config.model}, base model {fingerprint}")
    policy, sound = _readable(config), True
    for about, check in (
        ("machine", lambda: check_machine(config)),
        ("server", lambda: check_server(path)),
        ("deepspeed", lambda: [check_deepspeed(config)]),
        ("privacy", lambda: check_privacy(path, config)),
        ("problems", lambda: _check_job(config, job(), policy, arguments.manifest)),
    ):
        for finding in _guarded(about, check):
            sound = sound and finding.status != "failed"
            yield finding
    if sound:
        for finding in _guarded("step memory", lambda: [check_step_memory(config, job())]):
            sound = finding.status != "failed"
            yield finding
    if sound:
        with console.status("rehearsing: the worker starts, samples and takes a step"):
            shared = config.public_problems, config.test_problems
            yield from _guarded("rehearsal", lambda: rehearse(spec_on(*shared, job()), config))
    else:
        yield Finding("rehearsal", "warning", "not tried", "fix what failed above first")


def _readable(config: SiteConfig) -> SitePolicy | None:
    """None without a policy, or for one that cannot be read: `check_privacy` says so, and once is enough."""
    try:
        return load_settings(SitePolicy, config.policy) if config.policy else None
    except SettingsError:
        return None


def _check_job(
    config: SiteConfig, job: JobConfig, policy: SitePolicy | None, manifest: Path | None
) -> Iterator[Finding]:
    extras = check_extras(config, job, policy)
    if policy is not None or config.policy is None:
        yield extras
    yield check_length(config, job)
    yield from check_problems(config, job, manifest)
    if policy is not None and extras.status == "ok":  # else a rule lacks what it needs, which was said
        yield check_admitted(job, config, policy, count_private(config))


def _guarded(about: str, check: Callable) -> Iterator[Finding]:
    try:
        yield from check()
    except (ValueError, OSError, TrialFailed, VerifierFault) as error:
        yield Finding(about, "failed", str(error) or type(error).__name__)


def _print(finding: Finding, console: Screen) -> None:
    line = Text(f"{finding.status:<8}", style=COLOURS[finding.status])
    line.append(f"{finding.about:<12}", style="bold").append(finding.text.replace("\n", f"\n{'':<20}"), style="default")
    console.print(line, soft_wrap=True)
    if finding.status != "ok" and finding.remedy:
        console.print(Text(f"{'':<20}{finding.remedy}", style="dim"), soft_wrap=True)
