"""`fedrlvr doctor`: check everything that a job needs at this site. Exit code 0 if all is well, 1 if not."""

import argparse
from pathlib import Path

from fedrlvr.commands.shared import add_job, check_files, check_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--site-config", type=Path, required=True, metavar="FILE", help="the site's fedrlvr.yaml")
    add_job(parser, "the job's preset: task, prompt, LoRA targets")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="the consortium's manifest.json")
    parser.add_argument("--constraints", type=Path, metavar="FILE", help="tested versions to compare with")


def run(arguments: argparse.Namespace) -> int:
    check_job(arguments)
    check_files(arguments, "manifest", "constraints", "site_config")
    from fedrlvr.commands.quiet import quiet

    quiet()
    from fedrlvr.commands.check_up import check_up  # loads torch

    return 1 if check_up(arguments) else 0
