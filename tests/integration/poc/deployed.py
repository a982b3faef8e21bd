"""A proof of concept and its lead's jobs, as commands; and what a test sees of them from outside, or does to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from tests.integration.conftest import ROOT, SMALL, command_of, processes_of

from fedrlvr import processes
from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.flare.deploy.project import is_free
from fedrlvr.processes import marked

JOB = ROOT / "jobs" / "demo" / "job.py"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # When FLARE gives up a site whose job process died. By default: after 60 s, and 30 s after it sent a task.
    "NVFLARE_DEAD_CLIENT_GRACE_PERIOD": "2",
    "NVFLARE_DEAD_CLIENT_CHECK_LEAD_TIME": "2",
    # When a site's job process counts as lost that sends no heartbeats. By default: after 600 s, one every 10 s.
    "NVFLARE_SITE_SILENCE": "20",
    "NVFLARE_JOB_HEARTBEAT_INTERVAL": "1",
}


SEED = 1
STARTED: list[subprocess.Popen] = []  # to be ended after the tests, should one of them fail


def start(*arguments: object) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    STARTED.append(process)
    return process


def run(*arguments: object) -> tuple[int, str]:
    process = start(*arguments)
    out, _ = process.communicate(timeout=400)
    return process.returncode, out


def poc_run(*arguments: object) -> tuple[int, str]:
    return run(ROOT / "poc" / "run.py", *arguments)


def settings(*more: str) -> list[str]:
    """The small demo's, with three rounds, for whatever sites there are."""
    chosen = [setting for setting in SMALL if not setting.startswith("data.sites")]
    return [part for setting in (*chosen, "federation.rounds=3", *more) for part in ("--set", setting)]


def submit(poc: Poc, workspace: Path, seed: int, *more: str) -> subprocess.Popen:
    places = ["--env", "poc", "--poc", poc.folder, "--workspace", workspace]
    return start(JOB, *places, "--seed", seed, *settings(*more))


def cut_short(folder: Path, how: signal.Signals, *arguments: object) -> tuple[int, str]:
    """An `up` that gets a signal when its first process runs."""
    mark = folder / "flare" / "fedrlvr" / "mark"
    before = mark.read_text() if mark.exists() else ""
    process = start(ROOT / "poc" / "run.py", "up", *arguments)
    while not (mark.exists() and mark.read_text() not in ("", before) and marked(mark.read_text())):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(how)
    out, _ = process.communicate(timeout=200)
    return process.returncode, out


def nothing_left(folder: Path, port: int) -> bool:
    return not processes_of(folder) and is_free(port)


def listens_at(port: int) -> set[str]:
    connections = psutil.net_connections("tcp")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port}


def events_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wait_until(job: subprocess.Popen, text: str) -> str:
    said = ""
    for line in job.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"never said {text!r}:\n{said}")


def wait_for_round(poc: Poc, folder: Path, number: int, earlier: str = "") -> str:
    """Until the job of the run folder, another than `earlier`, has begun the round (from 0); returns its id. The
    server's own event log tells: the lead hears of it up to two seconds later, and a small round may be over then."""
    server, deadline = poc.deployment.kit(poc.deployment.server), time.monotonic() + 240
    while True:
        job_id = (folder / "job_id").read_text() if (folder / "job_id").exists() else ""
        log = server / job_id / "fedrlvr" / "metrics.jsonl"
        said = log.read_text() if job_id not in ("", earlier) and log.exists() else ""
        measured = [json.loads(line) for line in said.split("\n")[:-1] if '"global"' in line]
        if any(event["round"] == number - 1 for event in measured):
            return job_id
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def of_site(poc: Poc, name: str, what: str = "") -> list[psutil.Process]:
    """FLARE's processes of a participant."""
    kit = str(poc.deployment.kit(name))
    return [p for p in poc.deployment.processes() if kit in command_of(p) and what in command_of(p)]


def workers(poc: Poc) -> list[psutil.Process]:
    return [p for p in poc.deployment.processes() if "fedrlvr.worker.worker" in command_of(p)]


def start_again(poc: Poc, name: str) -> None:
    """A participant whose processes were killed."""
    mark = (poc.folder / "flare" / "fedrlvr" / "mark").read_text()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **ENVIRONMENT, "PATH": path}
    processes.start(["./startup/start.sh"], None, environment, mark, cwd=poc.deployment.kit(name)).wait()


def kill(processes: list[psutil.Process]) -> None:
    """All at once, so that none tells of another's end."""
    assert processes
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
