"""Processes that this package starts: each leads a group, may carry a mark, and need not outlive who started it."""

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path

import psutil

OWNER_ONLY = 0o077  # the umask of a site's processes: what they write is for the site's own user
MARK = "FEDRLVR_RUN"  # in the environment, which every child inherits
ORPHANED = 3  # exit code


def start(
    command: Sequence[str], log: Path | None = None, environment: Mapping | None = None, mark: str = "", **options
) -> subprocess.Popen:
    """Start a process at the head of a group, which an interruption at the terminal does not reach. It reads nothing,
    and prints to the end of `log`, or to nowhere; `options` are Popen's, and go first."""
    variables = {**(os.environ if environment is None else environment), **({MARK: mark} if mark else {})}
    with open(log, "ab") if log else nullcontext(subprocess.DEVNULL) as out:
        channels = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out} | options
        return subprocess.Popen(command, env=variables, start_new_session=True, **channels)


def running(process: subprocess.Popen) -> bool:
    """Unlike Popen's `poll` this does not reap a dead process, so that `end` can still end its group."""
    with suppress(ChildProcessError):  # somebody else has reaped it
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return process.returncode is None and os.waitid(os.P_PID, process.pid, options) is None
    return False


def end(process: subprocess.Popen) -> int:
    """Kill what is left of the group that `start` began, and close the channels to it. The exit code."""
    with process, suppress(ProcessLookupError):
        if process.returncode is None:  # once it is reaped, the group's number may be somebody else's
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def die_with(lifeline: int, last: Callable[[], None] = lambda: None) -> None:
    """End this process, after a call of `last`, when its parent dies or whoever holds the other end of `lifeline`: a
    pipe or a socket into which nobody writes. The pipe alone would not do: a fork of the parent may hold a copy."""
    parent, poll = os.getppid(), select.poll()
    poll.register(lifeline, select.POLLIN)

    def watch() -> None:
        while os.getppid() == parent and not poll.poll(1000):
            pass
        try:
            last()
        finally:
            os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def interruption_waits() -> Iterator[None]:
    """An interruption at the terminal acts when the block is over, not inside it. In another thread than the main one,
    which no interruption reaches, this does nothing."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            usual(signal.SIGINT, None)


def reachable_ports(process: psutil.Process) -> list[str]:
    """Address and number of each TCP port at which another machine can connect to the process, or to one under it."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            places = [c.laddr for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            found |= {f"{place.ip} port {place.port}" for place in places if not ip_address(place.ip).is_loopback}
    return sorted(found)


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.1) -> bool:
    """Whether the condition was met within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return bool(met)


def marked(mark: str) -> list[psutil.Process]:
    """Every running process that carries the mark, except the calling one. Raises ValueError for an empty mark."""
    if not mark:
        raise ValueError("a run's mark is not empty")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def end_marked(mark: str) -> None:
    """Kill every process that carries the mark, except the calling one; again, as a dying parent may still fork. Where
    one is a child of the calling process, this reaps it: `end` it before, if its exit code matters."""
    for _ in range(5):
        found = marked(mark)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not found:
            return
        psutil.wait_procs(found, timeout=3)  # until all their threads are gone, and so their ports are free
