"""One run of a comparison, in this process over the local transport, whose bytes are FLARE's."""

import argparse
import json
import shutil
import time
from contextlib import closing
from pathlib import Path

from fedrlvr.algorithms.schedule import planned_steps
from fedrlvr.comparison.clock import ClockedTransport
from fedrlvr.comparison.plan import Run
from fedrlvr.comparison.record import DIGITS, record_of
from fedrlvr.launch.simulated import prepare_here, site_model, start_here
from fedrlvr.tasks import task_named


def make_model(run: Run, workspace: Path) -> None:
    """Make the base model, if it is not there, so that two runs do not make it twice."""
    experiment = run.experiment
    task = task_named(experiment.task, experiment.verifier)
    site_model(experiment, task, _arguments(run, workspace), lambda text: None)


def run_cell(name: dict, run: Run, workspace: Path, path: Path) -> dict:
    """Run it and write its record, which begins with `name`, to `path`. The run's folder is removed once that is done.
    Where sites are slow, the record's `time` is that of the rounds, in units of what a site that is not slow needs for
    all its steps.

    Raises what a run raises (`Run`), SettingsError, and ValueError where the run did not finish.
    """
    events, began = [], time.monotonic()
    prepared = prepare_here(run.experiment, _arguments(run, workspace), lambda text: None)
    clocked = {"new_transport": lambda agents: ClockedTransport(agents, run.slow)} if run.slow else {}
    with closing(start_here(prepared, lambda text: None, **clocked)) as started:
        started.run(lambda event: events.append(event) if event else None)
    record = name | run.identity | record_of(events, time.monotonic() - began)
    if run.slow:
        took = sum(event["seconds"] for event in events if event["event"] == "round")
        record["time"] = round(took / planned_steps(prepared.spec.job), DIGITS)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(record) + "\n", encoding="utf-8")
    unfinished.rename(path)
    shutil.rmtree(prepared.folder)
    return record


def _arguments(run: Run, workspace: Path) -> argparse.Namespace:
    """As of a job's command."""
    given = {"data": run.data, "model": run.model, "policy": None}
    return argparse.Namespace(env="local", workspace=workspace, tiny=False, rebuild_model=False, track=None, **given)
