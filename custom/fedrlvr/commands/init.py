"""`fedrlvr init`: write a small project around problems of one's own. It never overwrites anything."""

import argparse
import shlex
from pathlib import Path

from fedrlvr.launch.new_project import KINDS, write_project
from fedrlvr.report.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=_named, metavar="NAME", help="the project's name: of the new folder, or its path"
    )
    kinds = "math: answers compared as mathematics; choice: multiple choice; own: a verifier of your own"
    parser.add_argument("--task", choices=KINDS, required=True, help=kinds)


def run(arguments: argparse.Namespace) -> int:
    written = write_project(arguments.folder, arguments.task)
    console = Screen(soft_wrap=True)
    console.print(f"wrote {', '.join(written)} into {arguments.folder}")
    console.print(f"next: cd {shlex.quote(str(arguments.folder))}, and go on as its README.md says")
    return 0


def _named(path: str) -> Path:
    """Raises argparse.ArgumentTypeError for a path that ends in no name."""
    if not path or not Path(path).name:
        raise argparse.ArgumentTypeError("expected a name, such as my_project")
    return Path(path)
