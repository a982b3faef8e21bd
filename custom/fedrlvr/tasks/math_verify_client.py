"""Asking math-verify whether two expressions are equal, at a bounded cost: the client of `math_verify_process`."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from functools import lru_cache
from pathlib import Path

from fedrlvr.processes import end, start
from fedrlvr.tasks.task import DIED, TIMEOUT

START_DEADLINE = 120.0  # seconds until a new process has to be ready; it imports sympy
_ROOT = Path(__file__).parents[2]  # where the package lies: the process has to find it too
_clients: weakref.WeakSet[MathVerifyClient] = weakref.WeakSet()


class VerifierFault(RuntimeError):
    """math-verify cannot be used here. That is a fault of the installation, never a reward."""


class MathVerifyClient:
    """One process for comparisons, started when it is first needed and again whenever it is gone.

    Usable from any thread, and after a fork: the new process gets a client of its own.
    """

    def __init__(self, deadline: float, memory_mb: int):
        """`deadline` in CPU-seconds for one comparison, `memory_mb` of address space."""
        self.deadline, self.memory_mb = deadline, memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        _clients.add(self)

    def compare(self, gold: str, candidate: str) -> str:
        """ "equal" or "different"; else "timeout", "memory", or "died" if the process was killed twice over it.

        Raises:
            VerifierFault: the process cannot be started, or fails its self-test.
        """
        request = json.dumps({"gold": gold, "candidate": candidate}).encode() + b"\n"
        with self._lock:
            try:
                return self._exchanged(request) or self._exchanged(request) or DIED
            except BaseException:  # an interruption would leave a reply that the next request took for its own
                self._stop()
                raise

    def close(self) -> None:
        """End the process. The next comparison would start another."""
        with self._lock:
            self._stop()

    def _exchanged(self, request: bytes) -> str | None:
        """The outcome of one attempt; None if the process died over it."""
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(request)
            # Wall time, for a process that is stopped or hangs; the deadline proper is one of CPU time.
            reply = self._reply(10 * self.deadline + 10)
        except TimeoutError:
            self._stop()
            return TIMEOUT
        except BrokenPipeError:
            reply = None
        if reply is None:
            self._stop()
            return None
        return reply["outcome"]

    def _start(self) -> None:
        # One thread only: a process with more may not fork. One hash seed: sympy's ways depend on it.
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        limits = [str(self.deadline), str(self.memory_mb), str(os.getpid())]
        try:
            self._process = start(
                [sys.executable, "-P", "-m", "fedrlvr.tasks.math_verify_process", *limits],
                environment=os.environ | single | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            reply = self._reply(START_DEADLINE)
        except (OSError, TimeoutError) as error:
            raise VerifierFault(f"the process that compares answers cannot be started: {error}") from None
        if reply is None:
            code = self._process.wait()
            raise VerifierFault(f"the process that compares answers ended with code {code} before it was ready")
        if "fault" in reply:
            raise VerifierFault(f"math-verify does not work here: {reply['fault']}")

    def _reply(self, seconds: float) -> dict | None:
        """The next line from the process; None if it ended instead. Raises TimeoutError."""
        poll, line, end = select.poll(), b"", time.monotonic() + seconds
        poll.register(self._process.stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError(f"no reply in {seconds:.0f} s")
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                return None
            line += part
        return json.loads(line)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def _after_fork(self) -> None:
        """In a forked process: let go of the parent's process, which would otherwise never see its end."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            process.stdin.close()
            process.stdout.close()
            process.returncode = 0  # not ours to wait for


@lru_cache
def client_for(deadline: float, memory_mb: int) -> MathVerifyClient:
    """The client that everything with these limits shares."""
    return MathVerifyClient(deadline, memory_mb)


def _forked() -> None:
    for client in list(_clients):
        client._after_fork()


def _close_all() -> None:
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_close_all)
