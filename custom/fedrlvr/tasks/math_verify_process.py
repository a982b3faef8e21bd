"""The process that compares expressions with math-verify.

Started as `python -m fedrlvr.tasks.math_verify_process SECONDS MEGABYTES PID`.

A few characters can keep math-verify busy for ever or make it fill the memory. So this process imports it once and
forks a child that does the work: the kernel can end the child at its limit of CPU time, even inside C code, and the
next child is ready in milliseconds. Requests and replies are JSON lines, one reply per request.

The limit is CPU time, not wall time: on a loaded machine a right answer must not turn into a wrong one.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import select
import signal
import sys
from functools import lru_cache

from fedrlvr.tasks.quick_parse import install
from fedrlvr.tasks.task import DIED, MEMORY, TIMEOUT

MAX_REQUESTS = 20_000  # for one child, as the caches of the libraries grow
CACHED_GOLDS = 4096
LIVENESS_INTERVAL = 1000  # milliseconds between checks that the parent is alive

Reply = dict


class Child:
    """A forked process that compares until a limit ends it."""

    def __init__(self, deadline: float, memory_mb: int, inherited: list[int]):
        requests_in, self.requests = os.pipe()
        self.replies, replies_out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for descriptor in (self.requests, self.replies, *inherited):
                    os.close(descriptor)
                _serve(requests_in, replies_out, deadline, memory_mb)
            finally:
                os._exit(1)  # never return into the caller's code, which would then run twice
        os.close(requests_in)
        os.close(replies_out)

    def end(self) -> int:
        """Kill and reap the child; return its wait status, which tells what ended it first."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)
        return status


class Dispatcher:
    """Passes requests on to a child, and replaces a child that died."""

    def __init__(self, source: int, target: int, deadline: float, memory_mb: int, parent: int):
        self.source, self.target, self.parent = source, target, parent
        self.limits = (deadline, memory_mb)
        self.child: Child | None = None

    def run(self) -> None:
        """Serve until the client closes its end or is gone."""
        while (request := self._next_request()) is not None:
            reply = self._answered(request) or self._answered(request) or {"outcome": DIED}
            _write_line(self.target, reply)

    def _next_request(self) -> bytes | None:
        self._wait_for(self.source)
        return _read_line(self.source)

    def _answered(self, request: bytes) -> Reply | None:
        """One attempt; None if the child ended for another reason than its limit of CPU time."""
        if self.child is None:
            self.child = Child(*self.limits, [self.source, self.target])
        try:
            _write_all(self.child.requests, request)
            self._wait_for(self.child.replies)
            line = _read_line(self.child.replies)
        except BrokenPipeError:
            line = None
        if line is not None:
            reply = json.loads(line)
            if reply.pop("last", False):
                self._end_child()
            return reply
        status = self._end_child()
        return {"outcome": TIMEOUT} if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF else None

    def _end_child(self) -> int:
        status, self.child = self.child.end(), None
        return status

    def _wait_for(self, descriptor: int) -> None:
        """Until there is something to read, or an end; leaves for good if the client is gone in the meantime. Not by
        `processes.die_with`: that takes a thread, and a process with two may not fork."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if descriptor != self.source:
            poll.register(self.source, 0)  # a hang-up is reported even so
        while True:
            events = dict(poll.poll(LIVENESS_INTERVAL))
            if descriptor in events:
                return
            if self.source in events or os.getppid() != self.parent:
                if self.child is not None:
                    self.child.end()
                os._exit(0)


def _serve(source: int, target: int, deadline: float, memory_mb: int) -> None:
    """Answer requests in a child. Returns when another child should take over."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    left = MAX_REQUESTS
    while left and (line := _read_line(source)) is not None:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, deadline)  # SIGPROF's default disposition ends the process
        outcome = _outcome(request["gold"], request["candidate"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        # A child that needed much memory may have reached the limit unnoticed and left something half done.
        spent = outcome == MEMORY or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory_mb << 9
        left = 0 if spent else left - 1
        _write_line(target, {"outcome": outcome} | ({} if left else {"last": True}))


def _outcome(gold: str, candidate: str) -> str:
    try:
        return "equal" if _equal(gold, candidate) else "different"
    except MemoryError:
        return MEMORY
    except Exception:  # math-verify and sympy raise anything for odd input; it has not found them equal
        return "different"


def _equal(gold: str, candidate: str) -> bool:
    from math_verify import verify

    golds, candidates = _parsed_gold(gold), _parsed(candidate)
    if len(golds) == len(candidates) == 1 and (known := _constants_equal(golds[0], candidates[0])) is not None:
        return known
    return bool(verify(golds, candidates, timeout_seconds=None, raise_on_error=True))


def _constants_equal(one, other) -> bool | None:
    """Whether two constants are equal, where that is cheap to see: the same once evaluated, or far apart. Else None.

    math-verify would spend long on simplifying such constants.
    """
    from sympy import Expr

    if not all(isinstance(value, Expr) and value.is_number and value.is_finite for value in (one, other)):
        return None
    if one == other or one.doit() == other.doit():
        return True
    try:
        a, b = complex(one.evalf()), complex(other.evalf())
    except TypeError:  # sympy cannot compute its digits; math-verify may still compare it
        return None
    return False if abs(a - b) > 1e-5 * (1 + abs(a)) else None


@lru_cache(CACHED_GOLDS)
def _parsed_gold(text: str) -> list:
    return _parsed(text)


def _parsed(text: str) -> list:
    """The text as one LaTeX expression; an empty list if only a part of it is one."""
    from math_verify import parse

    return parse(
        f"${text}$",
        extraction_config=[_extraction()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,  # math-verify's own limit would use an alarm signal
    )


@lru_cache(1)
def _extraction():
    from latex2sympy2_extended.math_normalization import NormalizationConfig
    from math_verify import LatexExtractionConfig

    # Units and boxes are handled earlier. Here they would drop letters from expressions, or look for another box.
    normalization = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    return LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)


def _self_test() -> str | None:
    """What is wrong with this installation of math-verify, or None. It also warms up the parser."""
    pairs = [("x^2+2x+1", "(x+1)^2", True), ("3\\sqrt{2}", "\\sqrt{18}", True), ("\\frac{\\pi}{2}", "\\pi", False)]
    for gold, candidate, right in pairs:
        if _equal(gold, candidate) is not right:
            return f"math-verify says that {candidate} is {'not ' if right else ''}equal to {gold}"
    return None


def _read_line(descriptor: int) -> bytes | None:
    """A line with its line end; None at the end of the stream. No second line comes before the first is answered."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 65536)
        if not part:
            return None
        line += part
    return line


def _write_line(descriptor: int, value: dict) -> None:
    _write_all(descriptor, json.dumps(value).encode() + b"\n")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _quiet() -> tuple[int, int]:
    """Move the pipes away from descriptors 0 and 1, to which libraries may print."""
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    logging.disable(logging.CRITICAL)
    return source, target


def main(deadline: float, memory_mb: int, parent: int) -> None:
    source, target = _quiet()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        install()
        fault = _self_test()
    except Exception as error:  # the client must be told, whatever it is
        fault = f"{type(error).__name__}: {error}"
    _write_line(target, {"fault": fault} if fault else {"ready": "yes"})
    if fault is None:
        gc.freeze()  # existing objects stay shared with the children
        gc.set_threshold(100_000)  # the parser makes many short-lived objects; collecting them took a third of its time
        Dispatcher(source, target, deadline, memory_mb, parent).run()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
