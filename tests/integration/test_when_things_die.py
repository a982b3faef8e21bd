"""Runs that are killed, interrupted, or whose sites fail: said why, nothing lost, nothing left running."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest

from fedrlvr.data.problems import read_problems
from fedrlvr.federation.simulator import Simulation, SimulationFailed
from fedrlvr.tasks import TASKS

spec = importlib.util.spec_from_file_location("demo_conftest", Path(__file__).with_name("conftest.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)

pytestmark = pytest.mark.slow


def journal_of(folder: Path) -> Path:
    return folder / "flare" / "demo" / "server" / "simulate_job" / "fedrlvr" / "metrics.jsonl"


@pytest.mark.parametrize(("sent", "seed"), [(signal.SIGKILL, 31), (signal.SIGINT, 32)])
def test_a_run_killed_half_way_leaves_no_process(demo, workspace, sent, seed):
    process = demo("--seed", str(seed))
    folder = workspace / f"demo-pubswap-seed{seed}"
    helpers.wait_for_line(journal_of(folder), '"event": "step"')
    running = helpers.processes_of(folder)
    assert len(running) >= 2 + 2 * 2  # the simulator's own, and two for each site
    os.kill(process.pid, sent)
    process.communicate(timeout=30)
    left = helpers.wait_until_gone(folder, seconds=15)
    assert not left, [p.cmdline() for p in left]
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert json.loads((folder / "summary.json").read_text())["finished"] is False
        assert (folder / "pass_at_1.png").exists()


def simulate(simulation: Simulation) -> list[dict]:
    return [event for event in simulation.events() if event]


@pytest.fixture
def prepared(site_files, small_job, tmp_path):
    """A simulation of three sites whose files a test may spoil before it starts."""

    def prepare(spoil=lambda sites: None, **changes) -> Simulation:
        job = small_job(**({"federation__rounds": 2, "federation__segments_per_round": 1} | changes))
        manifest, sites = site_files({"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)})
        public = [p.id for p in read_problems(sites["site-1"].public_problems, TASKS["protocol"])]
        spoil(sites)
        return Simulation(tmp_path / "run", job, public, manifest, sites)

    return prepare


def test_sites_that_cannot_start_are_named_with_their_reasons_and_the_run_fails(prepared):
    def spoil(sites):
        sites["site-2"] = sites["site-2"].model_copy(update={"model_path": Path("/nonexistent")})
        path = sites["site-3"].private_problems
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[1].replace('"answer"', '"anwser"'), *lines[2:]]))

    simulation = prepared(spoil, federation__min_sites=2)
    with pytest.raises(SimulationFailed) as failure:
        simulate(simulation)
    assert "only 1 of 3 sites are left, federation.min_sites is 2" in str(failure.value)
    assert "site-2 failed in validate: model_path: no config.json in /nonexistent" in str(failure.value)
    assert "site-3 failed in validate: ProblemFileError: " in str(failure.value)
    assert "site-3.jsonl, line 2, field anwser: unknown; known are id, prompt" in str(failure.value)
    assert not helpers.processes_of(simulation.folder.parent)


def test_a_worker_killed_in_a_round_is_back_in_the_next(prepared):
    """Quorum holds without it: the round goes on, the next averaged adapter brings the site back."""
    simulation = prepared(federation__min_sites=2, federation__segments_per_round=5, exchange__schedule=[])
    events, killed = [], False
    for event in simulation.events():
        if event:
            events.append(event)
        if event and event["event"] == "step" and not killed:
            worker_of(simulation, "site-2").kill()
            killed = True
    failures = [e for e in events if e["event"] == "failure"]
    assert {e["site"] for e in failures} == {"site-2"}
    assert "worker died (exit code -9)" in failures[0]["reason"] or "worker was lost" in failures[0]["reason"]
    averaged = [e["sites"] for e in events if e["event"] == "average"]
    assert averaged == [["site-1", "site-3"], ["site-1", "site-2", "site-3"]]
    assert not helpers.processes_of(simulation.folder.parent)


def worker_of(simulation: Simulation, site: str):
    """A site's worker is the process that writes its worker log."""
    for process in helpers.processes_of(simulation.folder.parent):
        if any(file.path.endswith(f"{site}/worker.log") for file in process.open_files()):
            return process
    raise AssertionError(f"{site} has no worker")
