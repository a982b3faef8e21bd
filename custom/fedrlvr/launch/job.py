"""From a preset to a finished run: problems and base model made, job run where it was asked for, result reported. What
`jobs/*/job.py` call."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import transformers
from rich.console import Console

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.schedule import steps_per_segment
from fedrlvr.data.problems import ProblemFileError
from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.deploy.poc import PocError
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.launch.resumed import resume
from fedrlvr.launch.simulated import run_locally, simulate
from fedrlvr.launch.submitted import submit_to_poc, submit_to_production
from fedrlvr.report.progress import Progress
from fedrlvr.report.run_folder import report
from fedrlvr.run import Run, RunFailed
from fedrlvr.settings_file import SettingsError

ENVIRONMENTS = {"local": run_locally, "sim": simulate, "poc": submit_to_poc, "prod": submit_to_production}


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
        choices=list(ENVIRONMENTS),
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
        help="go on with the run in this folder after its last completed round",
    )
    parser.add_argument("--rebuild-model", action="store_true", help="make the base model anew although it is there")
    return parser.parse_args()


def run(args: argparse.Namespace) -> int:
    """Run one experiment; returns the exit code. Bad input ends here with one message and code 2, a failed run with
    1."""
    console = Console()
    logging.disable(logging.WARNING)  # libraries' notes on this machine would tear the progress line apart
    transformers.utils.logging.disable_progress_bar()
    try:
        if args.resume_from is not None:
            started, prepared = resume(args, console)
        else:
            experiment = load_experiment(args.config, args.set, args.tiny, method=args.method, seed=args.seed)
            started, prepared = ENVIRONMENTS[args.env or "sim"](experiment, args, console)
    except (SettingsError, ProblemFileError, PocError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted before the run began", file=sys.stderr)
        return 130
    return follow(started, prepared, console)


def follow(started: Run, prepared: PreparedRun, console: Console) -> int:
    """Show the run's progress, then its result; what was done before a failure is kept and reported too."""
    job, began = prepared.job, time.monotonic()
    sites = f"{len(prepared.sites)} sites, " if prepared.sites else ""
    console.print(
        f"{job.method}, {sites}seed {job.seed}; log: {started.log_path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in _time_outs(prepared):
        console.print(f"  {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
    events, failure = [], None
    progress = Progress(console, job.federation.rounds, job.total_segments, steps_per_segment(job), len(prepared.sites))

    def hear(event: dict | None) -> None:
        progress.feed(event)
        if event:
            events.append(event)

    try:
        with progress:
            started.run(hear)
    except RunFailed as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        started.close()
        if events:
            report(events, time.monotonic() - began, started.server_folder, prepared, console)
    if failure:
        print(
            f"error: the run did not finish: {failure}\nlog: {started.log_path}\n"
            f"To go on after its last completed round: --resume-from {prepared.folder}",
            file=sys.stderr,
        )
        return 130 if failure == "interrupted" else 1
    return 0


def _time_outs(prepared: PreparedRun) -> list[str]:
    """What there is to know of them before one strikes."""
    deadlines = Deadlines.of(prepared.job)
    if prepared.environment == "local":
        return []
    return [deadlines.in_short()] if prepared.environment == "sim" else deadlines.describe()[:-1]
