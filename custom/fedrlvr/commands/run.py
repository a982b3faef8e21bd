"""`fedrlvr run`: what the `job.py` of a job does, from any folder, with a shipped preset or one of your own."""

import argparse

from fedrlvr.launch import job
from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import file_or_shipped, shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(shipped("preset"))
    parser.add_argument("preset", nargs="?", metavar="PRESET", help=f"a YAML file, or the name of one of ours: {known}")
    job.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `launch.job.run`. Raises SettingsError for a preset that is not there, and one too few or too many."""
    if (arguments.preset is None) == (arguments.resume_from is None):
        raise SettingsError("expected a PRESET, as in `fedrlvr run demo`, or --resume-from, and not both")
    arguments.config = arguments.preset and file_or_shipped("preset", arguments.preset)
    return job.run(arguments)
