"""Runs that are killed, interrupted, or whose sites fail: said why, nothing lost, nothing left running."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.integration.conftest import processes_of, wait_for_line, wait_until_gone
from tests.runs import of, simulation_of

from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.run import RunFailed

pytestmark = pytest.mark.slow

RUN = "0123456789abcdef"


def journal_of(folder: Path) -> Path:
    return folder / "flare" / "demo" / "server" / "simulate_job" / "fedrlvr" / "metrics.jsonl"


@pytest.mark.parametrize(("sent", "seed"), [(signal.SIGKILL, 31), (signal.SIGINT, 32)])
def test_a_run_killed_half_way_leaves_no_process(demo, workspace, sent, seed):
    process = demo("--seed", str(seed))
    folder = workspace / f"demo-pubswap-seed{seed}"
    wait_for_line(journal_of(folder), '"event": "step"')
    running = processes_of(folder)
    assert len(running) >= 2 + 2 * 2  # the simulator's own, and two for each site
    os.kill(process.pid, sent)
    process.communicate(timeout=30)
    left = wait_until_gone(folder, seconds=15)
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

    def prepare(spoil=lambda sites: None, folder="run", resume=False, **changes) -> Simulation:
        job = small_job(**({"federation__rounds": 2, "federation__segments_per_round": 1} | changes))
        _, sites = site_files({"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)})
        states = {site: tmp_path / f"{folder}-sites" / site for site in sites}
        sites = {name: config.model_copy(update={"state_dir": states[name]}) for name, config in sites.items()}
        spoil(sites)
        return simulation_of(tmp_path / folder, job, sites, run=RUN, resume=resume)

    return prepare


def test_sites_that_cannot_start_are_named_with_their_reasons_and_the_run_fails(prepared):
    def spoil(sites):
        sites["site-2"] = sites["site-2"].model_copy(update={"model_path": Path("/nonexistent")})
        path = sites["site-3"].private_problems
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[1].replace('"answer"', '"anwser"'), *lines[2:]]))

    simulation = prepared(spoil, federation__min_sites=2)
    with pytest.raises(RunFailed) as failure:
        simulate(simulation)
    assert "only 1 of 3 sites are left, federation.min_sites is 2" in str(failure.value)
    assert "site-2 failed in validate: model_path: no config.json in /nonexistent" in str(failure.value)
    assert "site-3 failed in validate: ProblemFileError: " in str(failure.value)
    assert "site-3.jsonl, line 2, field anwser: unknown; known are id, prompt" in str(failure.value)
    assert not processes_of(simulation.folder.parent)


SMALL = {
    "federation__rounds": 2,
    "federation__segments_per_round": 3,
    "exchange__schedule": [1, 4],
    "federation__min_sites": 2,
}


def final_adapter(simulation: Simulation) -> bytes:
    last = max((simulation.server_folder / "rounds").iterdir(), key=lambda path: int(path.name))
    return (last / "adapter_model.safetensors").read_bytes()


def test_workers_that_die_at_work_are_back_in_the_next_segment(prepared, faults):
    """Killed, crashed, hanging, and one rank of two: each costs its task, nothing more, and the others go on."""
    planned = [
        {"site": "site-1", "task": "train", "segment": 0, "act": "kill"},
        {"site": "site-2", "task": "swap", "segment": 1, "act": "crash"},
        {"site": "site-3", "task": "submit", "round": 0, "act": "kill"},
        {"site": "site-1", "task": "train", "segment": 3, "act": "hang"},
        {"site": "site-2", "task": "train", "segment": 4, "act": "kill", "rank": 1},
    ]
    faults(*planned)

    def two_ranks(sites):
        sites["site-2"] = sites["site-2"].model_copy(update={"processes": 2})

    simulation = prepared(two_ranks, **SMALL, federation__step_deadline=20)
    events = simulate(simulation)
    assert faults.happened() == [0, 1, 2, 3, 4]
    failures = of(events, "failure")
    assert [(e["site"], e["task"]) for e in failures] == [(fault["site"], fault["task"]) for fault in planned]
    reasons = [e["reason"] for e in failures]
    assert "worker died (exit code -9)" in reasons[0]
    assert "worker died" in reasons[1]
    assert "no answer within federation.step_deadline = 20 s" in reasons[3]
    assert "worker died" in reasons[4] or "Connection" in reasons[4]  # whichever is noticed first
    assert [(e["segment"], e["sites"]) for e in of(events, "back")] == [
        (1, ["site-1"]),
        (2, ["site-2"]),
        (4, ["site-1"]),
        (5, ["site-2"]),
    ]
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"], ["site-1", "site-2", "site-3"]]
    done = {site: {e["segment"] for e in of(events, "step") if e["site"] == site} for site in ("site-1", "site-2")}
    assert done == {"site-1": {1, 2, 4, 5}, "site-2": {0, 1, 2, 3, 5}}
    assert events[-1]["event"] == "end"
    assert not processes_of(simulation.folder.parent)


def test_a_worker_killed_between_tasks_costs_nothing_and_a_lost_run_is_resumed_to_the_same_bytes(
    prepared, faults, tmp_path
):
    """Three runs of one job: undisturbed; with workers killed whenever they had answered; killed whole in the second
    round, and resumed."""
    calm = prepared(folder="calm", **SMALL)
    assert simulate(calm)[-1]["event"] == "end"

    moments = [("site-1", "train", 0), ("site-2", "train", 1), ("site-3", "propose", 1), ("site-1", "swap", 4)]
    faults(*({"site": s, "task": t, "segment": n, "act": "kill", "answered": True} for s, t, n in moments))
    stirred = prepared(folder="stirred", **SMALL)
    assert not of(simulate(stirred), "failure")
    assert faults.happened() == [0, 1, 2, 3]
    assert final_adapter(stirred) == final_adapter(calm)

    lost = prepared(folder="lost", **SMALL)
    for event in lost.events():
        if event and event["event"] == "step" and event["segment"] == 4:
            break
    lost.close()
    assert not processes_of(lost.folder)
    # What the last second wrote is damaged: the sites' newest checkpoints are cut short.
    for newest in [sorted(path.glob("*-segment-*"))[-1] for path in tmp_path.glob("lost-sites/*/checkpoints/*/")]:
        cut_short(newest / "adapter.safetensors")
    again = prepared(folder="lost", resume=True, **SMALL)
    events = simulate(again)
    assert of(events, "resumed")[0]["after"] == 0
    assert [e["round"] for e in of(events, "average")] == [0, 1]
    assert final_adapter(again) == final_adapter(calm)
    assert not processes_of(tmp_path)


def cut_short(file: Path) -> None:
    with open(file, "r+b") as handle:
        handle.truncate(file.stat().st_size // 2)
