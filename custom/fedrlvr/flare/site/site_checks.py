"""Checks of `fedrlvr doctor` in a site's kit: the server, the site's policy, log and ledger, and whether FLARE will
apply the policy."""

import os
from collections.abc import Iterator
from pathlib import Path

from fedrlvr.flare.reach import SITE_KIT, server_in
from fedrlvr.flare.site.lockdown import check_authorization, check_resources, check_switch, read_local
from fedrlvr.flare.workarounds import NoRemoteShell
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import load_settings
from fedrlvr.site.checks import Finding, check_delta
from fedrlvr.site_config import SiteConfig

SHELL = f"{NoRemoteShell.__module__}.{NoRemoteShell.__name__}"
WRITTEN_BY = "where there is none, `fedrlvr site init` writes it"


def check_privacy(site_file: Path, config: SiteConfig) -> Iterator[Finding]:
    """The policy, and the files beside the site's file that make FLARE apply it. Raises SettingsError."""
    if config.policy is None:
        unchecked = "none: all answers of a job's worker leave unchecked"
        yield Finding("policy", "warning", unchecked, "set policy: its file; `fedrlvr site init` writes one")
        return
    policy = load_settings(SitePolicy, config.policy)
    yield Finding("policy", "ok", f"{config.policy}, {_in_words(policy)}")
    yield _records(policy)
    yield check_delta(config, policy)
    local = site_file.resolve().parent
    yield _switch(local / "privacy.json")
    yield from _other_ways(local)
    yield _foreign_code(local)


def check_server(site_file: Path) -> Iterator[Finding]:
    """Whether the server can be reached, where the site's file lies in a kit's `local/` folder. If not, it may not run
    yet: a warning. Raises SettingsError for a kit that cannot be used."""
    kit = site_file.resolve().parent.parent
    if not (kit / "startup" / SITE_KIT).exists():
        return
    server = server_in(kit, SITE_KIT)
    trouble = server.trouble()
    if trouble is None:
        yield Finding("server", "ok", f"{server} answers")
    else:
        yield Finding("server", "warning", f"{server}: {trouble.cause}", trouble.remedy)


def _in_words(policy: SitePolicy) -> str:
    adapters, answers = policy.adapters, policy.responses
    words = ["adapters as they are" if adapters.clip_norm is None else f"adapters clipped to {adapters.clip_norm:g}"]
    if adapters.noise_multiplier:
        words.append(f"noise {adapters.noise_multiplier:g}")
    words.append("answers shared" if answers.share else "no answers")
    if answers.share and answers.ngram:
        words.append(f"none with {answers.ngram} private words in a row")
    if answers.share and answers.rare_words:
        words.append(f"none with {answers.rare_words} rare words of a private problem")
    if answers.share and answers.pii:
        words.append(f"none with {len(answers.pii)} kinds of personal data")
    if policy.training.require != "none":
        words.append(f"{policy.training.require} required")
    return ", ".join(words)


def _records(policy: SitePolicy) -> Finding:
    """Log and ledger must be readable, agree with each other, and be in folders that can be written."""
    try:
        log, ledger = EgressLog(policy.log), Ledger(policy.ledger, site=None)
        count = sum(1 for _ in log.entries())
        ledger.check_knows(log.last_ledger())
        budgets = ledger.budgets()
    except Refused as reason:
        return Finding("records", "failed", str(reason), "nothing leaves until this is repaired")
    for path in (policy.log, policy.ledger):
        folder = next(parent for parent in path.parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            return Finding("records", "failed", f"{path} cannot be written", "nothing leaves until it can be")
    return Finding("records", "ok", f"{count} messages in {policy.log}, {len(budgets)} budgets in {policy.ledger}")


def _switch(path: Path) -> Finding:
    try:
        check_switch(path)
    except Refused as reason:
        return Finding("switch", "failed", str(reason), f"exactly one scope, the default one; {WRITTEN_BY}")
    return Finding("switch", "ok", f"{path} puts SiteGate on everything that leaves")


def _other_ways(local: Path) -> Iterator[Finding]:
    """FLARE's own ways out, which its default file leaves open."""
    try:
        resources = read_local(local, "resources.json")
        check_resources(resources)
    except Refused as reason:
        yield Finding("other ways", "failed", str(reason), f"edit resources.json; {WRITTEN_BY}")
        return
    yield Finding("other ways", "ok", "a job may name our executor only, logs stay here")
    if not any(part.get("path") == SHELL for part in resources.get("components", [])):
        shell = "the server can print any file that FLARE's process may read (cat, grep)"
        yield Finding("shell", "warning", shell, f"name {SHELL} under components in resources.json")


def _foreign_code(local: Path) -> Finding:
    """FLARE's default lets a project's administrator bring code; so does a file that does not mention it."""
    try:
        check_authorization(read_local(local, "authorization.json"))
        return Finding("byoc", "ok", "no role may bring code")
    except Refused as reason:
        return Finding("byoc", "warning", str(reason), f"byoc: none for every role in authorization.json; {WRITTEN_BY}")
