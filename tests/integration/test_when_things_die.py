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

FAULTS = Path(__file__).with_name("faults")


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


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Plan what shall go wrong in the workers of this test's runs; tells which of it has happened."""
    done = tmp_path / "done"
    done.mkdir()

    def plan(*planned: dict) -> None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setenv("FEDRLVR_FAULTS_DONE", str(done))
        monkeypatch.setenv("FEDRLVR_FAULTS", json.dumps(planned))

    plan.happened = lambda: sorted(int(path.name) for path in done.iterdir())
    return plan


SMALL = {
    "federation__rounds": 2,
    "federation__segments_per_round": 3,
    "exchange__schedule": [1, 4],
    "federation__min_sites": 2,
}


def of(events: list[dict], kind: str) -> list[dict]:
    return [event for event in events if event["event"] == kind]


def final_adapter(simulation: Simulation) -> bytes:
    last = max((simulation.server_folder / "rounds").iterdir(), key=lambda path: int(path.name))
    return (last / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "fault",
    [
        {"task": "train", "segment": 1, "act": "kill"},
        {"task": "train", "segment": 0, "act": "crash"},
        {"task": "swap", "segment": 1, "act": "kill"},
        {"task": "submit", "round": 0, "act": "kill"},
    ],
    ids=lambda fault: f"{fault['act']} in {fault['task']}",
)
def test_a_worker_that_dies_at_work_is_back_in_the_next_segment(prepared, faults, fault):
    faults(fault | {"site": "site-2"})
    simulation = prepared(**SMALL)
    events = simulate(simulation)
    assert faults.happened() == [0]
    (failure,) = of(events, "failure")
    assert (failure["site"], failure["task"]) == ("site-2", fault["task"])
    assert "worker died (exit code" in failure["reason"]
    averaged = [event["sites"] for event in of(events, "average")]
    if fault["task"] == "submit":  # its answer was lost, nothing else: it is in the next round from the start
        assert averaged == [["site-1", "site-3"], ["site-1", "site-2", "site-3"]]
    else:
        (back,) = of(events, "back")
        assert back["sites"] == ["site-2"]
        assert back["round"] == 0
        assert averaged == [["site-1", "site-2", "site-3"]] * 2
    segments = {event["segment"] for event in of(events, "step") if event["site"] == "site-2"}
    assert segments >= {2, 3, 4, 5}
    assert events[-1]["event"] == "end"
    assert not helpers.processes_of(simulation.folder.parent)


def worker_of(simulation: Simulation, site: str):
    """A site's worker is the process that writes its worker log."""
    for process in helpers.processes_of(simulation.folder.parent):
        if any(file.path.endswith(f"{site}/worker.log") for file in process.open_files()):
            return process
    raise AssertionError(f"{site} has no worker")
