"""Follow a run: show its progress, report its result."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from fedrlvr.algorithms.schedule import steps_per_segment
from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.report.progress import Progress
from fedrlvr.report.run_folder import report
from fedrlvr.run import Run, RunFailed


def follow(started: Run, prepared: PreparedRun, console: Console) -> int:
    """Show the run's progress, then its result, also of a run that failed. Returns the exit code."""
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
            f"To resume after its last completed round: --resume-from {prepared.folder}",
            file=sys.stderr,
        )
        return 130 if failure == "interrupted" else 1
    return 0


def _time_outs(prepared: PreparedRun) -> list[str]:
    if prepared.environment == "local":
        return []
    deadlines = Deadlines.of(prepared.job)
    return [deadlines.in_short()] if prepared.environment == "sim" else deadlines.describe()[:-1]
