"""What dies in a real FLARE deployment, killed for real: a site's FLARE process, a whole site, the server, the lead's
job. One proof of concept for all of it: starting one takes time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from tests.integration.conftest import ROOT, processes_of
from tests.integration.test_poc import nothing_left, poc_run, run, settings, start

from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.flare.deploy.project import free_port
from fedrlvr.flare.live_events import read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB = ROOT / "jobs" / "demo" / "job.py"
MORE = [
    "federation.rounds=3",
    "federation.segments_per_round=4",  # so that a round is not over before it can be struck
    "exchange.schedule=[0,5]",
    "federation.step_deadline=60",
    "federation.min_sites=2",
]


@pytest.fixture(scope="module")
def poc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deaths") / "poc"
    port = free_port(None)
    code, out = poc_run("up", "--sites", 3, "--port", port, "--workspace", folder)
    assert code == 0, out
    yield Poc(folder)
    assert poc_run("down", "--workspace", folder)[0] == 0
    assert nothing_left(folder, port)


def submit(poc: Poc, seed: int, *more: str):
    return start(JOB, "--env", "poc", "--workspace", poc.folder.parent, "--seed", seed, *settings(*MORE, *more))


def run_folder(poc: Poc, seed: int) -> Path:
    return poc.folder.parent / f"demo-pubswap-seed{seed}"


def events_of(poc: Poc, seed: int) -> list[dict]:
    return [json.loads(line) for line in (run_folder(poc, seed) / "metrics.jsonl").read_text().splitlines()]


def wait_until(job, text: str) -> str:
    said = ""
    for line in job.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"never said {text!r}:\n{said}")


def of_site(poc: Poc, name: str, what: str = "") -> list[psutil.Process]:
    kit = str(poc.deployment.kit(name))
    return [p for p in poc.deployment.processes() if kit in " ".join(p.cmdline()) and what in " ".join(p.cmdline())]


def wait_for_round(poc: Poc, folder: Path, number: int) -> None:
    """Until the job of the run folder has begun the round (from 0), says the server's own event log: the lead hears of
    it up to two seconds later, and a small round may be over by then."""
    deadline, before = time.monotonic() + 240, {"which": "global", "round": number - 1}
    while not any(before.items() <= event.items() for event in server_events(poc, folder)):
        assert time.monotonic() < deadline, server_events(poc, folder)
        time.sleep(0.02)


def server_events(poc: Poc, folder: Path) -> list[dict]:
    job_id = folder / "job_id"
    if not job_id.exists():
        return []
    kit = poc.deployment.kit(poc.project.server)
    return read_events(kit / job_id.read_text() / "fedrlvr" / "metrics.jsonl", limited=False)


def workers(poc: Poc) -> list[psutil.Process]:
    return [p for p in poc.deployment.processes() if "fedrlvr.worker.worker" in " ".join(p.cmdline())]


def kill(processes: list[psutil.Process]) -> None:
    """All at once, so that none tells of another's end."""
    assert processes
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()


def adapter_of(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_sites_flare_process_dies_and_the_others_go_on(poc):
    job = submit(poc, 1)
    wait_for_round(poc, run_folder(poc, 1), 1)
    kill(of_site(poc, "site-2", "worker_process"))
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 0, out
    events = events_of(poc, 1)
    assert events[-1]["event"] == "end"
    assert {e["site"] for e in events if e["event"] == "failure"} == {"site-2"}
    averaged = [e["sites"] for e in events if e["event"] == "average"]
    assert averaged[0] == ["site-1", "site-2", "site-3"]
    assert averaged[2] == ["site-1", "site-3"]


def test_below_the_quorum_the_run_ends_naming_the_site_and_one_command_goes_on(poc):
    job = submit(poc, 2, "federation.min_sites=3")
    wait_for_round(poc, run_folder(poc, 2), 1)
    kill(of_site(poc, "site-2", "worker_process"))
    out = job.communicate(timeout=400)[0]
    assert job.returncode == 1, out
    assert "error: the run did not finish: " in out
    assert "site-2" in out.split("error: the run did not finish: ")[1]
    code, out = run(JOB, "--workspace", poc.folder.parent, "--resume-from", run_folder(poc, 2))
    assert code == 0, out
    events = events_of(poc, 2)
    assert [e["after"] for e in events if e["event"] == "resumed"] == [0]
    assert [e["round"] for e in events if e["event"] == "average"] == [0, 1, 2]


def test_the_lead_aborts_and_no_worker_is_left(poc):
    job = submit(poc, 3)
    wait_for_round(poc, run_folder(poc, 3), 1)
    assert len(workers(poc)) == 3
    job.send_signal(signal.SIGINT)
    began = time.monotonic()
    while workers(poc):
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    print(f"workers gone after {time.monotonic() - began:.1f} s")
    out = job.communicate(timeout=120)[0]
    assert job.returncode == 130, out
    assert events_of(poc, 3)[-1]["event"] == "stopped"
    assert (run_folder(poc, 3) / "adapter" / "adapter_model.safetensors").exists()


def test_server_and_then_a_whole_site_die(poc):
    """The server in the middle of a round: started again, one command goes on to the adapter of a calm run. In the
    rest of that run a whole site dies, which costs the other two nothing."""
    calm = run(JOB, "--env", "poc", "--workspace", poc.folder.parent, "--seed", 4, *settings(*MORE))
    assert calm[0] == 0, calm[1]

    job = start(JOB, "--env", "poc", "--workspace", poc.folder.parent / "lost", "--poc", poc.folder, "--seed", 4,
                *settings(*MORE))  # fmt: skip
    lost = poc.folder.parent / "lost" / "demo-pubswap-seed4"
    wait_for_round(poc, lost, 1)
    kill(of_site(poc, poc.project.server))
    wait_until(job, "no connection to the server")
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=300)
    assert run(JOB, "--resume-from", lost)[0] == 2  # what is to run it does not run
    code, out = poc_run("up", "--sites", 3, "--workspace", poc.folder)
    assert (code, "is up" in out) == (0, True), out
    code, out = run(JOB, "--resume-from", lost)
    assert code == 0, out
    events = [json.loads(line) for line in (lost / "metrics.jsonl").read_text().splitlines()]
    assert [e["after"] for e in events if e["event"] == "resumed"] == [0]
    assert adapter_of(lost) == adapter_of(run_folder(poc, 4))

    job = start(JOB, "--resume-from", lost, "--set", "federation.rounds=5", "--set", "federation.step_deadline=20")
    wait_until(job, "round 4/5")
    kill(of_site(poc, "site-3") + [w for w in workers(poc) if w.parent() in of_site(poc, "site-3")])
    out = job.communicate(timeout=500)[0]
    assert job.returncode == 0, out
    events = [json.loads(line) for line in (lost / "metrics.jsonl").read_text().splitlines()]
    assert [e["sites"] for e in events if e["event"] == "average"][-1] == ["site-1", "site-2"]
    assert adapter_of(lost) != adapter_of(run_folder(poc, 4))
    assert not [p for p in processes_of(poc.folder) if "fedrlvr.site" in " ".join(p.cmdline())]
