"""Runs that are killed, interrupted, or whose sites fail: said why, nothing lost, nothing left running."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.integration.conftest import command_of, processes_of, wait_for_line, wait_until_gone
from tests.runs import heard, of, round_adapters, run_here, spec_of

from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.launch.local import LocalTransport
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.supervisor import Supervisor

pytestmark = pytest.mark.slow

RUN = "0123456789abcdef"
SMALL = {
    "federation__rounds": 2,
    "federation__segments_per_round": 3,
    "exchange__schedule": [1, 4],
    "federation__min_sites": 2,
}


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
    assert not left, [command_of(p) for p in left]
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert json.loads((folder / "summary.json").read_text())["finished"] is False
        assert (folder / "pass_at_1.png").exists()
        assert "not finished: no event says that it ended" in (folder / "report.html").read_text()


@pytest.fixture
def two_sites(site_files, small_job, tmp_path):
    """two_sites(folder, changes of the job): what a run of two sites needs, with their state beside that folder."""

    def make(folder: str, **changes) -> tuple[RunSpec, dict[str, SiteConfig]]:
        _, sites = site_files({"site-1": ("A", "B"), "site-2": ("C", "D")})
        for name, config in sites.items():
            sites[name] = config.model_copy(update={"state_dir": tmp_path / f"{folder}-sites" / name})
        return spec_of(small_job(**SMALL | changes), sites, run=RUN), sites

    return make


class Unhurried(LocalTransport):
    """Gives a process time to be gone before it is asked again, as FLARE does, whose sites come for their tasks."""

    def send(self, site, message, timeout, changed):
        time.sleep(0.5)
        return super().send(site, message, timeout, changed)


def test_workers_that_die_at_work_are_back_in_the_next_segment(two_sites, faults, tmp_path):
    """Killed, crashed, hanging, and one rank of two: each costs its task, nothing more, and the other site goes on."""
    planned = [
        {"site": "site-1", "task": "train", "segment": 0, "act": "kill"},
        {"site": "site-2", "task": "swap", "segment": 1, "act": "crash"},
        {"site": "site-1", "task": "submit", "round": 0, "act": "kill"},
        {"site": "site-1", "task": "train", "segment": 3, "act": "hang"},
        {"site": "site-2", "task": "train", "segment": 4, "act": "kill", "rank": 1},
    ]
    faults(*planned)
    spec, sites = two_sites("run", federation__min_sites=1, federation__step_deadline=12)
    sites["site-2"] = sites["site-2"].model_copy(update={"processes": 2})
    events, _ = run_here(tmp_path / "run", spec, sites, new_worker=Supervisor, new_transport=Unhurried)
    assert faults.happened() == [0, 1, 2, 3, 4]
    failures = of(events, "failure")
    assert [(e["site"], e["task"]) for e in failures] == [(fault["site"], fault["task"]) for fault in planned]
    reasons = [e["reason"] for e in failures]
    assert "worker died (exit code -9): killed by signal 9" in reasons[0]
    assert "worker died (exit code " in reasons[1]
    assert "no answer within federation.step_deadline = 12 s" in reasons[3]
    assert "worker died" in reasons[4] or "Connection" in reasons[4]  # whichever is noticed first
    assert [(e["segment"], e["sites"]) for e in of(events, "back")] == [
        (1, ["site-1"]),
        (2, ["site-2"]),
        (4, ["site-1"]),
        (5, ["site-2"]),
    ]
    assert [e["sites"] for e in of(events, "average")] == [["site-2"], ["site-1", "site-2"]]
    done = {site: {e["segment"] for e in of(events, "step") if e["site"] == site} for site in sites}
    assert done == {"site-1": {1, 2, 4, 5}, "site-2": {0, 1, 2, 3, 5}}
    assert events[-1]["event"] == "end"
    assert not processes_of(tmp_path)


@pytest.fixture
def calm(two_sites, tmp_path) -> bytes:
    """The adapter in which a run of two sites ends undisturbed, in this process."""
    events, run = run_here(tmp_path / "calm", *two_sites("calm"))
    assert events[-1]["event"] == "end"
    return round_adapters(run)[-1]


def test_workers_killed_whenever_they_had_answered_cost_nothing(two_sites, calm, faults, tmp_path):
    """After a segment without an exchange, before a proposal, before a swap, and after one."""
    moments = [("site-1", "train", 0), ("site-2", "train", 1), ("site-1", "propose", 1), ("site-2", "swap", 4)]
    faults(*({"site": s, "task": t, "segment": n, "act": "kill", "answered": True} for s, t, n in moments))
    how = {"new_worker": Supervisor, "new_transport": Unhurried}
    events, run = run_here(tmp_path / "stirred", *two_sites("stirred"), **how)
    assert not of(events, "failure")
    assert faults.happened() == [0, 1, 2, 3]
    assert round_adapters(run)[-1] == calm
    assert not processes_of(tmp_path)


def test_a_run_lost_with_all_its_processes_is_resumed_to_the_same_bytes(two_sites, calm, tmp_path):
    """FLARE's simulator is killed whole in the second round."""
    spec, sites = two_sites("lost")
    lost = Simulation(tmp_path / "lost", spec, sites)

    def interrupt(event: dict) -> None:
        if event["event"] == "step" and event["segment"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heard(lost, interrupt)
    assert not processes_of(lost.folder)
    # What the last second wrote is damaged: the sites' newest checkpoints are cut short.
    for newest in [sorted(path.glob("*-segment-*"))[-1] for path in tmp_path.glob("lost-sites/*/checkpoints/*/")]:
        cut_short(newest / "adapter.safetensors")
    again = Simulation(tmp_path / "lost", spec.model_copy(update={"resume": True}), sites)
    events = heard(again)
    assert of(events, "resumed")[0]["after"] == 0
    assert [e["round"] for e in of(events, "average")] == [0, 1]
    assert round_adapters(again)[-1] == calm
    assert not processes_of(tmp_path)


def cut_short(file: Path) -> None:
    with open(file, "r+b") as handle:
        handle.truncate(file.stat().st_size // 2)
