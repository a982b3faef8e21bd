"""`fedrlvr egress`: show what has left this site, what a job would let leave, or try the rules for answers."""

import argparse
from pathlib import Path

from fedrlvr.commands import egress_try
from fedrlvr.commands.shared import add_job, check_files, check_job
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site_config import SiteConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    show = actions.add_parser("show", help="summarise the site's egress log and ledger")
    trial = actions.add_parser("dry-run", help="run one segment here and show what would leave; nothing is sent")
    egress_try.add_arguments(
        actions.add_parser("try", help="see which answers a policy lets leave beside private texts")
    )
    for action in (show, trial):
        action.add_argument("--site-config", type=Path, required=True, metavar="FILE", help="the site's fedrlvr.yaml")
    add_job(trial, "the job's preset")
    trial.add_argument("--adapter", type=Path, metavar="DIR", help="start from this adapter (default: the job's first)")
    trial.add_argument("--full", type=Path, metavar="DIR", help="write what would leave into this new folder")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "try":
        return egress_try.run(arguments)
    if arguments.action == "dry-run":
        check_job(arguments)
    check_files(arguments, "site_config")
    path = arguments.site_config
    config = load_settings(SiteConfig, path)
    if config.policy is None:
        raise SettingsError(f"{path}: names no policy, so nothing is filtered or logged; set policy: FILE")
    policy = load_settings(SitePolicy, config.policy)
    if arguments.action == "show":
        from fedrlvr.commands.egress_show import show  # loads torch, as does the other

        return show(config, policy, Screen())
    config.check_paths()
    from fedrlvr.commands.quiet import quiet

    quiet()
    from fedrlvr.commands.egress_dry_run import try_job

    return try_job(arguments, config, policy, Screen())
