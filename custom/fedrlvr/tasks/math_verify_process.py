"""The process that compares expressions with math-verify.

Started as `python -m fedrlvr.tasks.math_verify_process MEGABYTES PID`.

A few characters can keep math-verify busy for ever or make it fill the memory. So this process imports it once and
forks a child that answers the client: the kernel can end the child at its limit of CPU time, even inside C code, and
the next child is ready in milliseconds. Requests and replies are JSON lines, one reply per request.

Each request brings its limit of CPU-seconds, and the reply says how many of them are left. It is CPU time, not wall
time: on a loaded machine a right answer must not turn into a wrong one.
"""

import ctypes
import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from typing import IO

from fedrlvr.tasks import exact_math, quick_parse
from fedrlvr.tasks.task import MEMORY, TIMEOUT

LIVENESS_INTERVAL = 1.0  # seconds between checks that the client is alive
REPLACE, FINISHED = 0, 1  # a child's exit codes: the next child should take over, or the client has closed its end

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def answer(requests: IO[bytes], replies: IO[bytes], memory_mb: int, client: int) -> None:
    """Fork one child after another, as long as one should take over or the last was ended by its limit of CPU time. A
    child that ends in another way ends this process too: the client starts it again."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # `_exit_code` waits for it
    code = REPLACE
    while code == REPLACE:
        child = os.fork()
        if child == 0:
            try:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                os._exit(_serve(requests, replies, memory_mb))
            finally:
                os._exit(FINISHED)  # never return into the caller's code, which would then run twice
        code = _exit_code(child, client)
        if code == -signal.SIGPROF:
            _reply(replies, {"outcome": TIMEOUT, "left": 0.0})
            code = REPLACE


def _exit_code(child: int, client: int) -> int:
    """The child's, once it has ended; it is killed if the client is gone. Not by `processes.die_with`: that takes a
    thread, and a process with two may not fork."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if os.getppid() != client:
            os.kill(child, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, LIVENESS_INTERVAL)


def _serve(requests: Iterable[bytes], replies: IO[bytes], memory_mb: int) -> int:
    """Answer requests in a child; its exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # SIGPROF's default disposition ends the process
        began = time.process_time()
        outcome = _outcome(request["gold"], request["candidate"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        left = request["seconds"] - (time.process_time() - began)
        # The caches of the libraries grow. And a child that needed much memory may have reached the limit unnoticed and
        # left something half done.
        spent = outcome == MEMORY or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory_mb << 9
        _reply(replies, {"outcome": outcome, "left": left})
        if spent:
            return REPLACE
    return FINISHED


def _outcome(gold: str, candidate: str) -> str:
    try:
        return "equal" if exact_math.equal(gold, candidate) else "different"
    except MemoryError:
        return MEMORY
    except Exception:  # odd input makes math-verify and sympy raise anything; unequal unless found equal
        return "different"


def _self_test() -> str | None:
    """What is wrong with this installation of math-verify, or None. It also warms up the parser."""
    pairs = [("x^2+2x+1", "(x+1)^2", True), ("3\\sqrt{2}", "\\sqrt{18}", True), ("\\frac{\\pi}{2}", "\\pi", False)]
    pairs += [("\\frac{R}{r}", "1", False), ("e^{i\\pi}", "-1", True), ("\\cos{60^\\circ}", "\\frac{1}{2}", True)]
    pairs += [("x+y<2", "y+x<2", True), ("x<2", "x>2", False)]
    for gold, candidate, right in pairs:
        if exact_math.equal(gold, candidate) is not right:
            return f"math-verify says that {candidate} is {'not ' if right else ''}equal to {gold}"
    return None


def _reply(replies: IO[bytes], value: dict) -> None:
    replies.write(json.dumps(value).encode() + b"\n")


def _channels() -> tuple[IO[bytes], IO[bytes]]:
    """Requests and replies, moved away from descriptors 0 and 1, to which libraries may print. No second request comes
    before the first is answered, so that no child reads more than it answers."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    logging.disable(logging.CRITICAL)
    return requests, replies


def main(memory_mb: int, client: int) -> None:
    requests, replies = _channels()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        quick_parse.install()
        exact_math.install()
        fault = _self_test()
    except Exception as error:  # the client must be told, whatever it is
        fault = f"{type(error).__name__}: {error}"
    _reply(replies, {"fault": fault} if fault else {"ready": "yes"})
    if fault is None:
        gc.freeze()  # existing objects stay shared with the children
        gc.set_threshold(100_000)  # the parser makes many short-lived objects; collecting them took a third of its time
        answer(requests, replies, memory_mb, client)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
