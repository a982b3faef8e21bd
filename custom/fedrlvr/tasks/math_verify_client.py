"""Asking math-verify whether two expressions are equal, at a bounded cost: the client of `math_verify_process`."""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from fedrlvr.processes import end, start
from fedrlvr.tasks.task import DIED, TIMEOUT, VerifierFault

START_DEADLINE = 120.0  # seconds until a new process has to be ready; it imports sympy
LEAST = 0.001  # CPU-seconds that are worth a comparison
_ROOT = Path(__file__).parents[2]  # the package's folder, which the process must find too


class MathVerifyClient:
    """One process for comparisons, started at first use and again whenever it has ended.

    Any thread may use it. After a fork, the new process starts its own comparing process.
    """

    def __init__(self, deadline: float, memory_mb: int):
        """`deadline` in CPU-seconds for the comparisons of one answer, `memory_mb` of address space."""
        self.deadline, self.memory_mb = deadline, memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.close)

    def budget(self) -> "Budget":
        """The comparisons of one answer."""
        return Budget(self, self.deadline)

    def compare(self, gold: str, candidate: str, seconds: float) -> tuple[str, float]:
        """ "equal" or "different"; else "timeout" after so many CPU-seconds, "memory", or "died" if the process died
        twice during it; and the seconds that are left. Raises VerifierFault if the process cannot be started, or fails
        its self-test."""
        request = json.dumps({"gold": gold, "candidate": candidate, "seconds": seconds}).encode() + b"\n"
        with self._lock:
            try:
                return self._exchanged(request, seconds) or self._exchanged(request, seconds) or (DIED, 0.0)
            except BaseException:  # else the next request might read the reply to this one
                self._stop()
                raise

    def close(self) -> None:
        """End the process; the next comparison starts another."""
        with self._lock:
            self._stop()

    def _exchanged(self, request: bytes, seconds: float) -> tuple[str, float] | None:
        """The outcome of one attempt and the seconds left; None if the process died during it."""
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(request)
            # This limit is wall time, for a process that is stopped or hangs; the deadline itself is CPU time.
            reply = self._reply(10 * seconds + 10)
        except TimeoutError:
            self._stop()
            return TIMEOUT, 0.0
        except BrokenPipeError:
            reply = None
        if reply is None:
            self._stop()
            return None
        return reply["outcome"], reply["left"]

    def _start(self) -> None:
        # One thread, as a process with several must not fork; a fixed hash seed, as sympy's results depend on it.
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        limits = [str(self.memory_mb), str(os.getpid())]
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
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise TimeoutError(f"no reply in {seconds:.0f} s")
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def _after_fork(self) -> None:
        """In a forked process: close our copies of the pipes, else the comparing process never sees its input end."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            process.stdin.close()
            process.stdout.close()
            process.returncode = 0  # it is the parent's child: do not wait for it


class Budget:
    """Asks whether the parts of one answer are equal. They share its CPU-seconds, so that many parts get no more."""

    def __init__(self, client: MathVerifyClient, seconds: float):
        self.client, self.seconds = client, seconds

    def __call__(self, gold: str, candidate: str) -> str:
        """The outcome, as `MathVerifyClient.compare`."""
        if self.seconds < LEAST:
            return TIMEOUT
        outcome, self.seconds = self.client.compare(gold, candidate, self.seconds)
        return outcome


client_for = lru_cache(MathVerifyClient)  # the shared client with these limits
