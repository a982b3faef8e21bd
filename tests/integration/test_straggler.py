"""Sites that stand still, disks that are full: the round goes on without what they cannot give, and says so."""

import json
import signal

import psutil
import pytest
from tests.integration.conftest import command_of, processes_of
from tests.runs import heard, of, simulation_of

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.lead import simulator
from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.processes import wait_until
from fedrlvr.report.incidents import incident_lines
from fedrlvr.report.summary import summarise
from fedrlvr.run import RunFailed
from fedrlvr.sealed_folder import check_seal, sealed_folders

pytestmark = pytest.mark.slow

RUN = "0123456789abcdef"


@pytest.fixture
def simulation(site_files, small_job, tmp_path):
    def prepare(**changes) -> Simulation:
        job = small_job(**{"federation__min_sites": 2, "federation__segments_per_round": 2} | changes)
        _, sites = site_files({"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)})
        return simulation_of(tmp_path / "run", job, sites, run=RUN)

    return prepare


def processes_of_site(simulation: Simulation, site: str) -> list[psutil.Process]:
    """FLARE's process of a simulated site, and its worker."""
    found = flare_of_site(simulation, site)
    assert len(found) == 1
    return [*found, *found[0].children(recursive=True)]


def flare_of_site(simulation: Simulation, site: str) -> list[psutil.Process]:
    """FLARE's process of a simulated site, once it has begun."""
    commands = {process: command_of(process) for process in processes_of(simulation.folder)}
    return [process for process, said in commands.items() if "simulator_worker" in said and site in said.split()]


def send_all(processes: list[psutil.Process], sent: signal.Signals) -> None:
    for process in processes:
        process.send_signal(sent)


def test_a_site_that_stands_still_and_one_with_a_full_disk_cost_the_others_nothing(simulation, faults, tmp_path):
    """site-3 and its worker are frozen after its first task, and go on when the server has given the second one up;
    site-2 can write no checkpoint, and hardly a line of its log, from its first segment on."""
    full = {"site": "site-2", "task": "train", "segment": 0, "act": "disk"}
    faults(full, {"site": "site-3", "task": "train", "segment": 0, "act": "freeze site"})
    run = simulation(federation__rounds=2, federation__step_deadline=8, exchange__schedule=[1, 3])

    def go_on(event: dict) -> None:
        if event["event"] == "failure":
            send_all(processes_of_site(run, "site-3"), signal.SIGCONT)

    events = heard(run, go_on)
    (failure,) = of(events, "failure")
    assert (failure["site"], failure["task"], failure["reason"]) == ("site-3", "train", "no answer (timeout)")
    asked = [e for e in of(events, "asked") if e["site"] == "site-3" and e["time"] < failure["time"]][-1]
    assert failure["time"] - asked["time"] >= Deadlines.of(run.spec.job).task  # it is the server that gave up
    assert [(e["site"], e["task"]) for e in of(events, "late")] == [("site-3", "train")]
    assert [(e["segment"], e["sites"]) for e in of(events, "back")] == [(1, ["site-3"])]
    everybody = ["site-1", "site-2", "site-3"]
    assert [e["sites"] for e in of(events, "average")] == [everybody, everybody]
    assert {e["segment"] for e in of(events, "step") if e["site"] == "site-3"} == {1, 2, 3}
    failed = [e for e in of(events, "step") if e.get("checkpoint/failed")]
    assert {e["site"] for e in failed} == {"site-2"}
    assert {e["segment"] for e in failed} == {0, 1, 2, 3}
    assert events[-1]["event"] == "end"
    said = incident_lines(summarise(events, 1.0))
    assert said[0] == "failed: site-3 in train: no answer (timeout)"
    assert said[1:4] == [
        "back after a failure: site-3 once",
        "answers that came too late: site-3 once",
        f"checkpoints not written: site-2 {len(failed)} times",
    ]
    for path in tmp_path.glob("sites/*/checkpoints/*"):
        assert not list(path.glob("*.tmp"))
        for checkpoint in sealed_folders(path):
            check_seal(checkpoint)
    assert not processes_of(tmp_path)


def test_a_run_ends_although_sites_stand_still_at_their_start_at_work_and_at_the_end(
    simulation, faults, tmp_path, monkeypatch
):
    """None of them ever goes on. site-3 is stopped while its process loads, site-2 when it is to submit its adapter,
    and site-1 when the run is over."""
    monkeypatch.setattr(simulator, "ENDING", 5.0)
    faults({"site": "site-2", "task": "submit", "round": 0, "act": "freeze site"})
    run = simulation(federation__rounds=1, federation__min_sites=1, federation__step_deadline=8)

    def stop(event: dict) -> None:
        site = {"start": "site-3", "end": "site-1"}.get(event["event"])
        if site:
            assert wait_until(lambda: flare_of_site(run, site), 60.0)
            send_all(flare_of_site(run, site), signal.SIGSTOP)

    events = heard(run, stop)
    assert {e["site"] for e in of(events, "failure")} == {"site-2", "site-3"}
    assert [e["sites"] for e in of(events, "average")] == [["site-1"]]
    assert events[-1]["event"] == "end"
    assert "ended by force: FLARE still waited for a site 5 s after" in run.log_path.read_text()
    assert not processes_of(tmp_path)


def test_a_server_that_can_keep_nothing_says_so_before_anything_is_computed(simulation):
    run = simulation(federation__rounds=1)
    (run.folder / "server").write_text("a plain file where a folder should be")
    with pytest.raises(RunFailed, match=f"cannot keep what the run does.*{run.folder / 'server'}"):
        heard(run)
    assert [json.loads(line)["event"] for line in (run.server_folder / "metrics.jsonl").open()] == ["stopped"]
    assert run._process.returncode != 0
    assert not processes_of(run.folder)
