"""The command line of `jobs/*/job.py` and `fedrlvr run`. What takes seconds to import is imported after the arguments
were checked."""

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import get_args

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.loading import loading
from fedrlvr.printable import print_error
from fedrlvr.run import Environment
from fedrlvr.shipped import POLICIES
from fedrlvr.tasks.task import VerifierFault


def arguments(description: str, config: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=config, help="preset (default: %(default)s)")
    add_arguments(parser)
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the preset."""
    add = parser.add_argument
    add("--method", choices=list(METHODS), help="default: what the preset says")
    add("--seed", type=int, help="default: what the preset says")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting of the preset; may be repeated",
    )
    add("--workspace", type=Path, default=Path("workspace"), help="where runs and models go (default: %(default)s)")
    where = "in this process, in FLARE's simulator (default), in the proof of concept of poc/run.py, or in production"
    add("--env", choices=get_args(Environment), help=f"where to run: {where}")
    add("--poc", type=Path, metavar="DIR", help="the proof of concept (default: WORKSPACE/poc)")
    add("--kit", type=Path, metavar="DIR", help="in production: your startup kit")
    add("--data", type=Path, metavar="DIR", help="problems: a folder made by `fedrlvr prepare`")
    add("--model", type=Path, metavar="DIR", help="base model: a Hugging Face directory")
    add("--start-from", type=Path, metavar="DIR", help="the first adapter: a PEFT directory, such as a run's adapter/")
    add("--tiny", action="store_true", help="a dry run in minutes: everything small, on a CPU")
    ours = ", ".join(POLICIES)
    add("--policy", metavar="FILE", help=f"privacy policy of every simulated site: a path, or one of ours: {ours}")
    add("--track", choices=list(TRACKERS), help="hand all numbers to one of FLARE's experiment trackers, at the server")
    add("--resume-from", type=Path, metavar="DIR", help="resume the run in this folder after its last completed round")
    add("--rebuild-model", action="store_true", help="make the base model again if it exists")


def _only_errors() -> None:
    """What libraries say below an error would break the progress line."""
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)  # it sets its own level
    logging.captureWarnings(True)


def run(args: argparse.Namespace) -> int:
    """Run one experiment. The exit code is 2 for bad input, 1 for a failed run or a verifier that cannot be used, 3 for
    a run that is done and whose adapter or report is not written, 4 for one in which no site has learnt anything, and
    130 for an interruption."""
    try:
        with loading():
            from fedrlvr.launch.stages import follow, prepare, start
            from fedrlvr.report.screen import Screen

            console = Screen()
            _only_errors()
            say = partial(console.print, soft_wrap=True)
            prepared = prepare(args, say)
            started = start(prepared, say)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    except VerifierFault as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        print_error("interrupted before the run began")
        return 130
    return follow(started, prepared, console)
