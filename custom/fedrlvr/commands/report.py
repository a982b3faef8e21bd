"""`fedrlvr report`: one page of a run's folder, alone or beside other runs."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, such as workspace/demo-pubswap-seed0")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes (default: RUN/report.html)")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs that differ from this one in method and seed only",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it is. Raises ValueError and OSError as `write_page`."""
    out = arguments.out
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"--out {out}: expected a file in a folder that is there, such as report.html")
    from fedrlvr.report.page.events import log_of

    for folder in (arguments.run, *arguments.compare):
        log_of(folder)  # before what takes seconds to load
    from fedrlvr.report.page.write import write_page

    print(write_page(arguments.run, out, arguments.compare))
    return 0
