"""One cell of a comparison, run in this process over the local transport, whose bytes are FLARE's."""

import argparse
import json
import shutil
import time
from contextlib import closing
from pathlib import Path

from fedrlvr.comparison.plan import identity
from fedrlvr.comparison.record import record_of
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.simulated import prepare_here, site_model, start_here
from fedrlvr.tasks import task_named


def make_model(experiment: ExperimentConfig, where: argparse.Namespace) -> None:
    """Make the base model, if it is not there, so that two cells do not make it twice."""
    site_model(experiment, task_named(experiment.task, experiment.verifier), where, lambda text: None)


def run_cell(name: dict, experiment: ExperimentConfig, where: argparse.Namespace, path: Path) -> dict:
    """Run it and write its record, which begins with `name`, to `path`. The run's folder is removed once that is done.

    Raises what a run raises (`Run`), SettingsError, and ValueError where the run did not finish.
    """
    events, began = [], time.monotonic()
    prepared = prepare_here(experiment, where, lambda text: None)
    with closing(start_here(prepared, lambda text: None)) as run:
        run.run(lambda event: events.append(event) if event else None)
    record = name | {"identity": identity(experiment)} | record_of(events, time.monotonic() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(record) + "\n", encoding="utf-8")
    unfinished.rename(path)
    shutil.rmtree(prepared.folder)
    return record
