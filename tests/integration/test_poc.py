"""`poc/run.py`: FLARE's server and sites as processes of their own, and the job that the simulator runs too."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.integration.conftest import ROOT, SMALL, processes_of

from fedrlvr.flare.deploy.poc import Poc, PocError
from fedrlvr.flare.deploy.project import free_port, is_free
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.processes import marked, wait_until

pytestmark = pytest.mark.slow


SITES = "data.sites={site-1: [A, C], site-2: [B, D]}"  # what dealing the demo's labels over two sites gives


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def run(*arguments: object) -> tuple[int, str]:
    process = start(*arguments)
    out, _ = process.communicate(timeout=400)
    return process.returncode, out


def poc_run(*arguments: object) -> tuple[int, str]:
    return run(ROOT / "poc" / "run.py", *arguments)


def settings(*more: str) -> list[str]:
    chosen = [setting for setting in SMALL if not setting.startswith("data.sites")]
    return [part for setting in (*chosen, *more) for part in ("--set", setting)]


@pytest.fixture
def folder(tmp_path):
    """A proof of concept's; whatever of it runs at the end is ended."""
    yield tmp_path / "poc"
    if (tmp_path / "poc" / "project.yml").exists():
        Poc(tmp_path / "poc").deployment.stop()


def nothing_left(folder: Path, port: int) -> bool:
    return not processes_of(folder) and is_free(port)


def test_the_demo_ends_in_the_simulators_adapter_and_leaves_nothing_behind(folder):
    port = free_port(None)
    code, out = poc_run("demo", "--sites", 2, "--port", port, "--workspace", folder, *settings(), "--seed", "1")
    assert code == 0, out
    assert "labels dealt: site-1 A, C; site-2 B, D" in out
    assert out.index("round 1/2") < out.index("proof of concept is down")
    assert nothing_left(folder, port)
    (ours,) = folder.parent.glob("demo-*")
    assert json.loads((ours / "summary.json").read_text())["finished"]
    for site in ("site-1", "site-2"):
        entries = list(EgressLog(Poc(folder).deployment.kit(site) / "local" / "fedrlvr-egress.jsonl").entries())
        assert {entry["decision"] for entry in entries} == {"released"}
    simulated = ["--workspace", folder.parent / "sim", "--seed", "1", *settings(SITES)]
    code, out = run(ROOT / "jobs" / "demo" / "job.py", *simulated)
    assert code == 0, out
    (theirs,) = (folder.parent / "sim").glob("demo-*")
    adapters = [(run / "adapter" / "adapter_model.safetensors").read_bytes() for run in (ours, theirs)]
    assert adapters[0] == adapters[1]


def test_up_and_down_again_and_again_and_a_lead_who_interrupts(folder):
    """One deployment for all of it: starting one takes time."""
    port = free_port(None)
    arguments = ["--sites", 1, "--port", port, "--workspace", folder]
    assert poc_run("up", *arguments)[0] == 0
    code, out = poc_run("up", *arguments)
    assert (code, "was up already" in out) == (0, True)
    code, out = poc_run("up", "--sites", 2, "--workspace", folder)
    assert (code, "was made with sites ['site-1'], not ['site-1', 'site-2']" in out) == (2, True)
    code, out = poc_run("up", *arguments, "--policy", "sealed")
    assert (code, "have another than sealed, and none of their files is written over" in out) == (2, True)
    assert _listens_at(port) == {"127.0.0.1"}
    _interrupt_a_run(folder)
    kept = Poc(folder).deployment.kit("site-1") / "local" / "fedrlvr-egress.jsonl"
    log = kept.read_bytes()
    assert poc_run("down", "--workspace", folder) == (0, "proof of concept is down\n")
    assert nothing_left(folder, port)
    code, out = run(ROOT / "jobs" / "demo" / "job.py", "--env", "poc", "--workspace", folder.parent)
    assert (code, "does not run; start it: python poc/run.py up" in out) == (2, True)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        code, out = poc_run("up", *arguments)
        assert (code, f"port {port} is taken" in out) == (2, True)
    assert poc_run("up", *arguments)[0] == 0
    assert kept.read_bytes() == log  # what left the house is not forgotten
    assert poc_run("down", "--workspace", folder)[0] == 0
    assert nothing_left(folder, port)


def test_a_start_that_is_cut_short_is_no_start(folder):
    """Killed, it leaves what runs, and the next one begins anew; interrupted, it takes everything down with it."""
    port = free_port(None)
    arguments = ["--sites", 1, "--port", port, "--workspace", folder]
    _cut_short(folder, signal.SIGKILL, *arguments)
    with pytest.raises(PocError, match="does not run"):
        Poc(folder).running()
    code, out = poc_run("up", *arguments)
    assert (code, "proof of concept is up" in out) == (0, True), out
    Poc(folder).running()
    assert poc_run("down", "--workspace", folder)[0] == 0
    code, out = _cut_short(folder, signal.SIGINT, *arguments)
    assert (code, out) == (130, "error: interrupted\n")
    assert nothing_left(folder, port)
    _cut_short(folder, signal.SIGKILL, *arguments)
    code, out = poc_run("down", "--workspace", folder)
    assert (code, "proof of concept is down" in out) == (0, True), out
    assert nothing_left(folder, port)


def _cut_short(folder: Path, how: signal.Signals, *arguments: object) -> tuple[int, str]:
    """An `up` that gets a signal when its first process runs."""
    begun = [path.read_text() for path in folder.rglob("mark")]
    process = start(ROOT / "poc" / "run.py", "up", *arguments)
    while not any(path.read_text() not in ["", *begun] and marked(path.read_text()) for path in folder.rglob("mark")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(how)
    out, _ = process.communicate(timeout=200)
    return process.returncode, out


def _interrupt_a_run(folder: Path) -> None:
    """Ctrl-C ends the job at the server, and what it did until then comes home."""
    job = start(ROOT / "jobs" / "demo" / "job.py", "--env", "poc", "--workspace", folder.parent, *settings())
    said = ""
    for line in job.stdout:
        said += line
        if line.startswith("round "):
            job.send_signal(signal.SIGINT)
            break
    said += job.communicate(timeout=120)[0]
    assert job.returncode == 130, said
    assert "aborting job" in said
    assert "error: the run did not finish: interrupted" in said
    (run_folder,) = folder.parent.glob("demo-*")
    events = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1] == events[-1] | {"event": "stopped", "reason": "aborted"}
    assert wait_until(lambda: not workers(folder), 60), "a site's worker outlives its job"


def workers(folder: Path) -> list[psutil.Process]:
    return [p for p in processes_of(folder) if "fedrlvr.worker" in " ".join(p.cmdline())]


def _listens_at(port: int) -> set[str]:
    connections = psutil.net_connections("tcp")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
