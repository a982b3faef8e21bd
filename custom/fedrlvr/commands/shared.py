"""What several commands have in common: the flags that name a job, and checks that need no library."""

import argparse
from pathlib import Path

from fedrlvr.settings_file import SettingsError

DTYPES, DEVICES = ("float32", "bfloat16"), ("auto", "cpu", "cuda")


def add_job(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Flags for a preset, as those of `job.py`."""
    parser.add_argument("--config", type=Path, metavar="PRESET", help=help_text)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of its settings")
    parser.add_argument("--tiny", action="store_true", help="use its tiny part")


def check_job(arguments: argparse.Namespace) -> None:
    """Raises SettingsError for changes of a preset that is not named, and FileNotFoundError."""
    if arguments.config is None and (arguments.set or arguments.tiny):
        raise SettingsError("--set, --tiny: these change a preset's settings; name it with --config")
    check_files(arguments, "config")


def check_files(arguments: argparse.Namespace, *names: str) -> None:
    """Raises FileNotFoundError for the first of these flags that names no file."""
    for name in names:
        path = getattr(arguments, name)
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"--{name.replace('_', '-')}: no such file: {path}")
