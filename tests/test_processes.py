"""Processes that lead a group, carry a mark, and end with their parent: real ones, really killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.gone import gone

from fedrlvr.processes import (
    MARK,
    ORPHANED,
    end,
    end_marked,
    interruption_waits,
    marked,
    reachable_ports,
    running,
    start,
    wait_until,
)

SLEEP = "import time; time.sleep(600)"
# A process that starts another, says its number, and goes on.
FAMILY = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}]).pid, flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def family():
    """A started process and its child."""
    parent = start(python(FAMILY + "time.sleep(600)"), stdout=subprocess.PIPE, text=True)
    yield parent, psutil.Process(int(parent.stdout.readline()))
    end(parent)


def test_a_process_prints_to_the_end_of_its_log_reads_nothing_and_leads_a_group_with_a_mark(tmp_path):
    log, mark = tmp_path / "log", uuid.uuid4().hex
    log.write_text("before\n")
    code = f"import os, sys; print(sys.stdin.read(), os.getpgrp() == os.getpid(), os.environ.get({MARK!r}), flush=True)"
    process = start(python(code + "; sys.exit('the end')"), log, {"A": "1"}, mark, cwd=tmp_path)
    assert process.wait(20) == 1
    assert log.read_text() == f"before\n True {mark}\nthe end\n"
    assert os.getpgid(0) != process.pid


LISTEN = """
import socket, sys, time
where = sys.argv[1]
listener = socket.create_server((where, 0), family=socket.AF_INET6 if ":" in where else socket.AF_INET)
print(listener.getsockname()[1], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("where", "reachable"),
    [("127.0.0.1", False), ("127.0.0.9", False), ("::1", False), ("0.0.0.0", True), ("::", True)],
)
def test_a_port_is_reachable_that_listens_beyond_this_machine(where, reachable):
    """It is a child's."""
    with start([*python(LISTEN), where], stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        assert reachable_ports(psutil.Process()) == ([f"{where} port {port}"] if reachable else [])
        end(process)


def test_without_a_log_it_prints_to_nowhere_and_options_go_first(capfd):
    process = start(python("print('said'); import os; os.write(2, b'noise')"), stdout=subprocess.PIPE)
    assert process.communicate(timeout=20) == (b"said\n", None)
    assert capfd.readouterr() == ("", "")


def test_ending_takes_the_whole_group_and_closes_the_channels(family):
    parent, child = family
    assert running(parent)
    assert end(parent) == -signal.SIGKILL
    assert wait_until(lambda: gone(child), 10)
    assert parent.stdout.closed
    assert not running(parent)
    assert end(parent) == -signal.SIGKILL  # again: nothing is killed in its place


def test_looking_at_a_dead_process_does_not_let_its_group_go(family):
    parent, child = family
    parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not running(parent), 10)
    assert parent.returncode is None
    assert not gone(child)
    assert end(parent) == -signal.SIGKILL
    assert wait_until(lambda: gone(child), 10)


def test_a_process_that_somebody_else_reaped_is_over(family):
    parent, child = family
    parent.send_signal(signal.SIGKILL)
    os.waitpid(parent.pid, 0)
    assert not running(parent)
    end(parent)
    assert wait_until(lambda: gone(child), 10)  # its group is still there, and so its number is its own


def test_the_exit_code_of_one_that_ended_by_itself_is_kept():
    process = start(python("raise SystemExit(7)"))
    assert wait_until(lambda: not running(process), 20)
    assert end(process) == 7


# Starts a process that ends with it, says the process's number when that is at work, and goes on as told.
PARENT = """
import os, subprocess, sys, time
from fedrlvr.processes import start
child = start([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
{then}
"""
CHILD = """
import pathlib, time
from fedrlvr.processes import die_with
die_with(0, lambda: pathlib.Path({last!r}).touch())
print("at work", flush=True)
{work}
"""
ENDS = {  # what the child does, and what becomes of the parent
    "killed": ("time.sleep(600)", "os.kill(os.getpid(), 9)"),
    "ended": ("time.sleep(600)", ""),
    "failed": ("time.sleep(600)", "raise RuntimeError"),
    "killed while the child is busy": ("while True: pass", "os.kill(os.getpid(), 9)"),
    "ended, while its fork holds a copy of the pipe": ("time.sleep(600)", "os.fork() or time.sleep(600)"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_process_dies_with_its_parent(tmp_path, how):
    work, then = ENDS[how]
    child = CHILD.format(last=str(tmp_path / "last"), work=work)
    parent = start(python(PARENT.format(child=child, then=then)), stdout=subprocess.PIPE, text=True)
    process = psutil.Process(int(parent.stdout.readline()))
    try:
        assert wait_until(lambda: gone(process), 20)
        assert (tmp_path / "last").exists()
    finally:
        end(parent)


def test_a_process_whose_last_act_fails_dies_all_the_same_and_not_of_a_parent_that_only_hangs(tmp_path):
    child = CHILD.format(last=str(tmp_path / "no folder" / "last"), work="time.sleep(600)")
    parent = start(python(PARENT.format(child=child, then="time.sleep(600)")), stdout=subprocess.PIPE, text=True)
    process = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGSTOP)
    assert not wait_until(lambda: gone(process), 2)
    parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: gone(process), 20)
    end(parent)


def test_the_exit_code_of_an_orphan_is_known():
    reader, writer = os.pipe()
    process = start(
        python(CHILD.format(last="/dev/null", work="time.sleep(600)")), stdin=reader, stdout=subprocess.PIPE
    )
    os.close(reader)
    assert process.stdout.readline() == b"at work\n"
    assert running(process)
    os.close(writer)  # not the parent dies, but whoever holds the other end lets go
    assert wait_until(lambda: not running(process), 10)
    assert end(process) == ORPHANED


def test_all_that_carry_a_mark_are_ended_in_whatever_group_and_others_are_not():
    mark, other = uuid.uuid4().hex, uuid.uuid4().hex
    own_group = FAMILY.replace("]).pid", "], start_new_session=True).pid")
    process = start(python(own_group + "time.sleep(600)"), mark=mark, stdout=subprocess.PIPE, text=True)
    bystander = start(python(SLEEP), mark=other)
    child = int(process.stdout.readline())
    # For a moment, a process that has just replaced its program has no environment that could be read.
    assert wait_until(lambda: {p.pid for p in marked(mark)} == {process.pid, child}, 10)
    end_marked(mark)
    assert marked(mark) == []
    assert not running(process)
    end(process)
    assert [p.pid for p in marked(other)] == [bystander.pid]
    assert end(bystander) == -signal.SIGKILL


LISTENER = """
import socket, threading, time
listener, memory = socket.create_server(("127.0.0.1", 0)), bytearray(200_000_000)
for _ in range(50):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_what_ended_processes_held_is_free_at_once():
    """A process with threads and memory looks dead before the last of it is gone."""
    for _ in range(3):
        mark = uuid.uuid4().hex
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENER!r}])"
        parent = start(python(code), mark=mark, stdout=subprocess.PIPE, text=True)
        port = int(parent.stdout.readline())
        end_marked(mark)
        socket.create_server(("127.0.0.1", port)).close()
        end(parent)


def test_an_empty_mark_marks_nobody():
    with pytest.raises(ValueError, match="not empty"):
        marked("")


def test_waiting_ends_with_the_condition_or_with_the_time():
    answers = iter([0, "", "yes", "never asked"])
    assert wait_until(lambda: next(answers), 10, pause=0.001) is True
    assert next(answers) == "never asked"
    began = time.monotonic()
    assert wait_until(lambda: False, 0.2, pause=0.01) is False
    assert 0.2 <= time.monotonic() - began < 5
    assert wait_until(lambda: True, 0) is True


def test_an_interruption_waits_for_the_end_of_the_block():
    passed = []

    def interrupted() -> None:
        with interruption_waits():
            signal.raise_signal(signal.SIGINT)
            passed.append("inside")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert passed == ["inside"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # the usual way again


def test_where_interruptions_are_ignored_or_do_not_come_nothing_changes():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        with interruption_waits():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)
    with ThreadPoolExecutor(1) as executor:  # Python lets no other thread than the main one set what a signal does
        assert executor.submit(lambda: interruption_waits().__enter__()).result() is None
