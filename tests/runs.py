"""Whole runs for tests: in this process, or in FLARE's simulator."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import yaml

from fedrlvr.config import JobConfig
from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.launch.experiment import spec_on
from fedrlvr.launch.local import LocalRun
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Run
from fedrlvr.site_config import SiteConfig

PROBLEMS = {"public_ids": ("p",), "public_sha256": "hash", "test_labels": ("A",), "test_sha256": "hash"}
SHIPPED = Path(__file__).parents[1] / "app_configs" / "site"


def shipped_policy(name: str) -> dict:
    """A policy as it is shipped, but for its least numbers of problems, as the sites of tests have few, and for secret
    draws, as tests repeat."""
    values = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    values.get("adapters", {}).pop("min_problems", None)
    values["metrics"].pop("min_heldout", None)
    values.get("training", {}).pop("secret_draws", None)
    return values


def spec_of(job: JobConfig, sites: Mapping[str, SiteConfig], **more) -> RunSpec:
    """A run of `job` on these sites' public problems; `more` are further fields of the spec, and go over the others."""
    first = next(iter(sites.values()))
    return RunSpec(**dict(spec_on(first.public_problems, first.test_problems, job)) | more)


def some_spec(job: JobConfig, **more) -> RunSpec:
    """A run on problems that there are not."""
    return RunSpec(job=job, **PROBLEMS | more)


def run_here(folder: Path, spec: RunSpec, sites: Mapping[str, SiteConfig], **how) -> tuple[list[dict], LocalRun]:
    """The run's events and the run itself, which is over. Raises RunFailed; events before that are in its folder."""
    run = LocalRun(folder, spec, sites, **how)
    return heard(run), run


def heard(run: Run, act: Callable[[dict], None] = lambda event: None) -> list[dict]:
    """The events of a run, which is over then; `act` gets each as it happens."""
    events = []

    def hear(event: dict | None) -> None:
        if event:
            events.append(event)
            act(event)

    with closing(run):
        run.run(hear)
    return events


def simulation_of(folder: Path, job: JobConfig, sites: Mapping[str, SiteConfig], **more) -> Simulation:
    return Simulation(folder, spec_of(job, sites, **more), dict(sites))


def of(events: list[dict], kind: str) -> list[dict]:
    return [event for event in events if event["event"] == kind]


def round_adapters(run: LocalRun | Simulation) -> list[bytes]:
    """What the server left of every round, as bytes."""
    folders = sorted((run.server_folder / "rounds").iterdir(), key=lambda path: int(path.name))
    return [(folder / "adapter_model.safetensors").read_bytes() for folder in folders]


def events_of(run: LocalRun | Simulation) -> list[dict]:
    return [json.loads(line) for line in (run.server_folder / "metrics.jsonl").read_text().splitlines()]


def adapter_of(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()
