"""The comparing process: bounded, killable, replaced when it dies, and never left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from tests.forks import in_a_child

from fedrlvr.processes import wait_until
from fedrlvr.tasks.math_verify_client import MathVerifyClient, client_for

ENDLESS = ("x^2", "\\int\\ln(\\sin x+x)dx")
DEADLINE = 0.4


@pytest.fixture(scope="module")  # a start takes seconds, and every test may find it in any state
def client():
    made = MathVerifyClient(DEADLINE, 1024)
    yield made
    made.close()


def gone(pid: int) -> bool:
    """Unlike `tests.gone`, a child of this process is gone only when the client has waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and psutil.Process(pid).ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


def in_thread(work) -> tuple[threading.Thread, list]:
    found: list = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


def members(client: MathVerifyClient) -> tuple[psutil.Process, psutil.Process]:
    """The process and its child, once there is one."""
    zygote = psutil.Process(client._process.pid)
    assert wait_until(zygote.children, 10, 0.01)
    return zygote, zygote.children()[0]


@pytest.mark.parametrize(
    ("gold", "candidate", "outcome"),
    [
        ("x^2+2x+1", "(x+1)^2", "equal"),
        ("x^2", "x^3", "different"),
        ("x", "\\nonsense{{", "different"),
        ("\\nonsense{{", "x", "different"),
        (*ENDLESS, "timeout"),
        ("x", "x", "equal"),
    ],
)
def test_outcomes(gold, candidate, outcome):
    assert client_for(DEADLINE, 1024).budget()(gold, candidate) == outcome


def test_a_comparison_is_cut_off_at_its_cpu_deadline_and_the_next_is_quick(client):
    client.budget()("x", "y")
    began = time.monotonic()
    assert client.budget()(*ENDLESS) == "timeout"
    assert time.monotonic() - began < 10
    first = client._process.pid
    assert client.budget()("x+1", "1+x") == "equal"
    assert client._process.pid == first


def test_the_comparisons_of_one_answer_share_its_deadline(client):
    client.budget()("x", "y")
    before = cpu_seconds(client)
    ask = client.budget()
    outcomes = [ask(*ENDLESS) for _ in range(5)]
    assert outcomes == ["timeout"] * 5
    assert cpu_seconds(client) - before < 2.5 * DEADLINE  # not five times
    ask = client.budget()
    assert [ask("x+1", f"{n}+x") for n in range(3)] == ["different", "equal", "different"]
    assert 0 < ask.seconds < DEADLINE


def cpu_seconds(client: MathVerifyClient) -> float:
    times = psutil.Process(client._process.pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def test_the_address_space_is_bounded():
    """Two numbers of 48 and 77 MB, and what their computation takes besides, do not fit."""
    small = MathVerifyClient(30.0, 256)
    try:
        assert small.budget()("x+1", "1+x") == "equal"
        _, child = members(small)
        assert child.rlimit(psutil.RLIMIT_AS) == (256 << 20, 256 << 20)
        assert small.budget()("x", "x+2^{9^{9}}-3^{9^{9}}") == "memory"
        assert small.budget()("x+1", "1+x") == "equal"
    finally:
        small.close()


def test_it_works_from_several_threads_at_once(client):
    pairs = [(f"x+{n}", f"{n + n % 2}+x") for n in range(12)]
    threads = [in_thread(lambda pair=pair: client.budget()(*pair)) for pair in pairs]
    for thread, _ in threads:
        thread.join(timeout=60)
    assert [found[0] for _, found in threads] == ["equal", "different"] * 6


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["the process", "its child"])
def test_killed_between_requests_it_is_replaced(client, victim):
    assert client.budget()("x+1", "1+x") == "equal"
    old = members(client)[victim]
    old.send_signal(signal.SIGKILL)
    outcomes = []  # a dying child may still give the first
    assert wait_until(lambda: outcomes.append(client.budget()("x+1", "1+x")) or gone(old.pid), 10)
    assert set(outcomes) == {"equal"}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["the process", "its child"])
def test_killed_once_during_a_request_it_tries_again_and_twice_it_gives_up(victim):
    patient = MathVerifyClient(30.0, 1024)
    try:
        patient.budget()("x", "y")
        thread, found = in_thread(lambda: patient.budget()(*ENDLESS))
        killed = set()

        def kill_the_next():
            process = patient._process
            if process is None:
                return False
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
            busy = len(family) == 2 and family[1].cpu_times().user > 0.1 and family[victim].pid not in killed
            if busy:
                killed.add(family[victim].pid)
                family[victim].send_signal(signal.SIGKILL)
            return busy

        for _ in range(2):
            assert wait_until(lambda: _quietly(kill_the_next), 30, 0.01)
        thread.join(timeout=30)
        assert found == ["died"]
        assert len(killed) == 2
        assert patient.budget()("x+1", "1+x") == "equal"
    finally:
        patient.close()


def _quietly(look) -> bool:
    try:
        return look()
    except psutil.NoSuchProcess:
        return False


def test_a_process_that_hangs_is_given_up_on(client):
    client.budget()("x", "y")
    zygote, child = members(client)
    child.send_signal(signal.SIGSTOP)
    assert client.compare("x+1", "1+x", -0.95) == ("timeout", 0.0)  # of which the wall-clock limit is 0.5 s
    assert wait_until(lambda: gone(zygote.pid) and gone(child.pid), 10)


@pytest.mark.slow
def test_an_interruption_leaves_no_reply_behind(client, monkeypatch):
    client.budget()("x", "y")
    with monkeypatch.context() as patch:
        patch.setattr(client, "_reply", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            client.budget()("x+1", "1+x")
    assert client.budget()("x", "y") == "different"


def test_closing_leaves_no_process_and_no_descriptor(client):
    client.close()
    before = len(os.listdir("/proc/self/fd"))
    client.budget()("x", "y")
    family = members(client)
    client.close()
    client.close()
    assert wait_until(lambda: all(gone(p.pid) for p in family), 10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_equal_limits_share_one_process():
    assert client_for(DEADLINE, 1024) is client_for(DEADLINE, 1024)
    assert client_for(DEADLINE, 1024) is not client_for(DEADLINE, 2048)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_the_new_process_has_its_own(client):
    client.budget()("x", "y")
    ours = client._process.pid

    def compare_in_the_child():
        assert client._process is None
        assert client.budget()("x+1", "1+x") == "equal"
        assert client._process.pid != ours
        client.close()

    assert in_a_child(compare_in_the_child) == 0
    assert client.budget()("x+1", "1+x") == "equal"
    assert client._process.pid == ours


PARENT = """
import os, sys, threading, time
from fedrlvr.tasks.math_verify_client import MathVerifyClient
client = MathVerifyClient(60.0, 1024)
client.budget()("x", "y")
print(client._process.pid, flush=True)
{then}
"""
THEN = {
    "idle": "time.sleep(600)",
    "busy": f"client.budget()(*{ENDLESS!r})",
    "with a copy of the pipe elsewhere": f"""
r = os.dup(client._process.stdin.fileno()); os.set_inheritable(r, True)
import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(8)'], close_fds=False)
client.budget()(*{ENDLESS!r})""",
}


@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", "busy", "with a copy of the pipe elsewhere"])
def test_nothing_outlives_a_parent_that_is_killed(state):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=THEN[state])], stdout=subprocess.PIPE, text=True
    )
    with parent:
        zygote = psutil.Process(int(parent.stdout.readline()))
        assert wait_until(zygote.children, 10, 0.01)
        time.sleep(0.3)
        family = [zygote, *zygote.children()]
        parent.kill()
    assert wait_until(lambda: all(gone(p.pid) for p in family), 6)


@pytest.mark.slow
def test_it_ends_with_a_parent_that_ends_by_itself():
    code = PARENT.format(then="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert gone(int(done.stdout))
