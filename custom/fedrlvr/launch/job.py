"""The command line of `jobs/*/job.py`. What takes seconds to import is imported after the arguments were checked."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from fedrlvr.algorithms.methods import METHODS


def arguments(description: str, config: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=config, help="preset (default: %(default)s)")
    parser.add_argument("--method", choices=list(METHODS), help="default: what the preset says")
    parser.add_argument("--seed", type=int, help="default: what the preset says")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of the preset"
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path("workspace"), help="where runs and models go (default: %(default)s)"
    )
    parser.add_argument(
        "--env",
        choices=["local", "sim", "poc", "prod"],
        help="where to run: in this process, in FLARE's simulator (default), in the proof of concept that poc/run.py "
        "started, or in production",
    )
    parser.add_argument("--poc", type=Path, metavar="DIR", help="the proof of concept (default: WORKSPACE/poc)")
    parser.add_argument("--kit", type=Path, metavar="DIR", help="in production: your startup kit")
    parser.add_argument("--data", type=Path, metavar="DIR", help="problems: a folder made by `fedrlvr prepare`")
    parser.add_argument("--model", type=Path, metavar="DIR", help="base model: a Hugging Face directory")
    parser.add_argument("--tiny", action="store_true", help="a dry run in minutes: everything small, on a CPU")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="privacy policy of every simulated site")
    parser.add_argument(
        "--resume-from",
        type=Path,
        metavar="DIR",
        help="resume the run in this folder after its last completed round",
    )
    parser.add_argument("--rebuild-model", action="store_true", help="make the base model again if it exists")
    return parser.parse_args()


def run(args: argparse.Namespace) -> int:
    """Run one experiment. The exit code is 2 for bad input, 1 for a failed run and 130 for an interruption."""
    try:
        import transformers
        from rich.console import Console

        from fedrlvr.launch.environments import prepare, start
        from fedrlvr.launch.follow import follow

        console = Console()
        logging.disable(logging.WARNING)  # messages of libraries would break the progress line
        transformers.utils.logging.disable_progress_bar()
        say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        prepared = prepare(args, say)
        started = start(prepared, say)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted before the run began", file=sys.stderr)
        return 130
    return follow(started, prepared, console)
