"""What several commands have in common: the flags that name a job, and checks that need no library."""

import argparse

from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import file_or_shipped

DTYPES, DEVICES = ("float32", "bfloat16"), ("auto", "cpu", "cuda")


def add_job(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Flags for a preset, as those of `job.py`."""
    parser.add_argument("--config", metavar="PRESET", help=f"{help_text}; a YAML file, or one of ours, as demo")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one of its settings; may be repeated"
    )
    parser.add_argument("--tiny", action="store_true", help="use its tiny part")


def check_job(arguments: argparse.Namespace) -> None:
    """Make the preset's name its path. Raises SettingsError for one that is not there, and for changes of none."""
    if arguments.config is None and (arguments.set or arguments.tiny):
        raise SettingsError("--set, --tiny: these change a preset's settings; name it with --config")
    if arguments.config is not None:
        try:
            arguments.config = file_or_shipped("preset", arguments.config)
        except SettingsError as error:
            raise SettingsError(f"--config {error}") from None


def check_files(arguments: argparse.Namespace, *names: str) -> None:
    """Raises FileNotFoundError for the first of these flags that names no file."""
    for name in names:
        path = getattr(arguments, name)
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"--{name.replace('_', '-')}: no such file: {path}")
