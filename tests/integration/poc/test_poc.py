"""`poc/run.py`: FLARE's server and sites as processes of their own, over a network, started and stopped by commands.
They run the job that the simulator runs too."""

import json
import runpy
import signal
import socket
import subprocess
from types import SimpleNamespace

import pytest
from tests.integration.conftest import ROOT, processes_of
from tests.integration.poc.deployed import (
    JOB,
    SEED,
    cut_short,
    listens_at,
    nothing_left,
    poc_run,
    run,
    settings,
)
from tests.reached import reached
from tests.runs import adapter_of

from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.settings_file import SettingsError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ["site-1", "site-2"]
LABELS = "data.sites={site-1: [A, C], site-2: [B, D]}"  # what dealing the demo's labels over them gives


def test_a_start_that_is_killed_is_no_start_and_the_next_one_begins_anew(folder, arguments):
    cut_short(folder, signal.SIGKILL, *arguments)
    with pytest.raises(SettingsError, match="does not run"):
        Poc(folder).running()
    code, out = poc_run("up", *arguments)
    assert (code, "proof of concept is up" in out) == (0, True), out
    Poc(folder).running()


def test_one_that_is_up_is_left_alone_and_listens_on_this_machine_only(poc, arguments, port):
    code, out = poc_run("up", *arguments)
    assert (code, "was up already" in out) == (0, True)
    code, out = poc_run("up", "--sites", 3, "--workspace", poc.folder)
    assert (code, f"was made with sites {NAMES}, not ['site-1', 'site-2', 'site-3']" in out) == (2, True)
    code, out = poc_run("up", *arguments, "--policy", "sealed")
    assert (code, "have another than sealed, and none of their files is written over" in out) == (2, True)
    assert listens_at(port) == {"127.0.0.1"}


def test_it_goes_down_and_a_start_that_is_interrupted_takes_everything_down_with_it(folder, arguments, port):
    if not folder.exists():
        assert poc_run("up", *arguments)[0] == 0
    assert poc_run("down", "--workspace", folder) == (0, "proof of concept is down\n")
    assert nothing_left(folder, port)
    code, out = run(JOB, "--env", "poc", "--workspace", folder.parent)
    assert (code, "does not run; start it: python poc/run.py up" in out) == (2, True)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        code, out = poc_run("up", *arguments)
        assert (code, f"port {port} is taken" in out) == (2, True)
    assert cut_short(folder, signal.SIGINT, *arguments) == (130, "error: interrupted\n")
    assert nothing_left(folder, port)
    cut_short(folder, signal.SIGKILL, *arguments)
    code, out = poc_run("down", "--workspace", folder)
    assert (code, "proof of concept is down" in out) == (0, True), out
    assert nothing_left(folder, port)


def test_the_demo_in_one_command_ends_in_the_same_adapter_and_leaves_nothing_behind(folder, arguments, port, calm):
    logs = [folder / "flare" / "fedrlvr" / "prod_00" / name / "local" / "fedrlvr-egress.jsonl" for name in NAMES]
    earlier = [log.read_bytes() if log.exists() else b"" for log in logs]
    with reached(lambda: processes_of(folder)) as ports:
        code, out = poc_run("demo", *arguments, *settings(), "--seed", SEED, "--track", "tensorboard")
    assert code == 0, out
    assert ports == set()
    assert "labels dealt: site-1 A, C; site-2 B, D" in out
    assert out.index("proof of concept is up") < out.index("round 1/3") < out.index("proof of concept is down")
    assert nothing_left(folder, port)
    result = folder.parent / f"demo-pubswap-seed{SEED}"
    assert json.loads((result / "summary.json").read_text())["finished"]
    assert adapter_of(result) == calm
    assert sorted(path.name for path in (result / "tb_events").iterdir()) == NAMES
    page = (result / "report.html").read_text()
    assert "own egress logs, verified" in page
    assert "Public problems side by side" in page
    for log, before in zip(logs, earlier, strict=True):
        assert log.read_bytes().startswith(before)  # what left the house is not forgotten over a start
        entries = list(EgressLog(log).entries())[before.count(b"\n") :]
        assert {entry["decision"] for entry in entries} == {"released"}


@pytest.mark.parametrize(("given", "placed"), [(["--seed", "3"], True), (["--resume-from", "x"], False)])
def test_a_demo_that_is_resumed_is_not_told_where_to_run(folder, monkeypatch, given, placed):
    """Its folder says so, and `job.py` refuses to be told again."""
    script = runpy.run_path(str(ROOT / "poc" / "run.py"))
    commands = []

    def run(command):
        commands.append(command)
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", run)
    assert script["_demo"](Poc(folder), given) == 0
    assert ("--env" in commands[0]) is placed
    assert commands[0][-2:] == given
