"""The process that compares expressions with math-verify.

Started as `python -m fedrlvr.tasks.math_verify_process SECONDS MEGABYTES PID`.

math-verify can be kept busy for ever, or made to fill the memory, by a few characters. This process imports it once
and forks a child that does the work, so that the kernel can end the child at its limit of CPU time even inside C code,
and the next child is there in milliseconds. Requests and replies are JSON lines, one reply a request.

CPU time, not wall time: on a loaded machine a right answer must not turn into a wrong one.
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

MAX_REQUESTS = 20_000  # of one child: caches of the libraries grow
CACHED_GOLDS = 4096
LIVENESS_INTERVAL = 1000  # milliseconds between looks whether the parent still lives

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
                os._exit(1)  # never back into the caller's code, of which there would be two
        os.close(requests_in)
        os.close(replies_out)

    def end(self) -> int:
        """Kill, reap and return the wait status (of whatever ended it first)."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)
        return status


class Zygote:
    """Hands requests on to a child and replaces children that die."""

    def __init__(self, source: int, target: int, deadline: float, memory_mb: int, parent: int):
        self.source, self.target, self.parent = source, target, parent
        self.limits = (deadline, memory_mb)
        self.child: Child | None = None

    def run(self) -> None:
        """Until the client closes its end or is gone."""
        while (request := self._next_request()) is not None:
            reply = self._answered(request) or self._answered(request) or {"outcome": "died"}
            _write_line(self.target, reply)

    def _next_request(self) -> bytes | None:
        self._wait_for(self.source)
        return _read_line(self.source)

    def _answered(self, request: bytes) -> Reply | None:
        """One attempt. None if the child was ended by something that says nothing about the request."""
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
                self._drop_child()
            return reply
        status = self._drop_child()
        return {"outcome": "timeout"} if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF else None

    def _drop_child(self) -> int:
        status, self.child = self.child.end(), None
        return status

    def _wait_for(self, descriptor: int) -> None:
        """Until there is something to read, or an end; leaves for good if the client is gone in the meantime. Not by
        `processes.die_with`: that takes a thread, and a process with two may not fork."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if descriptor != self.source:
            poll.register(self.source, 0)  # hang-ups are told anyway
        while True:
            events = dict(poll.poll(LIVENESS_INTERVAL))
            if descriptor in events:
                return
            if self.source in events or os.getppid() != self.parent:
                if self.child is not None:
                    self.child.end()
                os._exit(0)


def _serve(source: int, target: int, deadline: float, memory_mb: int) -> None:
    """A child's life. Returns when it should not go on."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    left = MAX_REQUESTS
    while left and (line := _read_line(source)) is not None:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, deadline)  # SIGPROF's default disposition ends the process
        outcome = _outcome(request["gold"], request["candidate"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        # Whoever has needed much memory may have met the limit unseen, and left something half done.
        spent = outcome == "memory" or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory_mb << 9
        left = 0 if spent else left - 1
        _write_line(target, {"outcome": outcome} | ({} if left else {"last": True}))


def _outcome(gold: str, candidate: str) -> str:
    try:
        return "equal" if _equal(gold, candidate) else "different"
    except MemoryError:
        return "memory"
    except Exception:  # whatever stops math-verify from comparing the two, it has not found them equal
        return "different"


def _equal(gold: str, candidate: str) -> bool:
    from math_verify import verify

    golds, candidates = _parsed_gold(gold), _parsed(candidate)
    if len(golds) == len(candidates) == 1 and (known := _constants_equal(golds[0], candidates[0])) is not None:
        return known
    return bool(verify(golds, candidates, timeout_seconds=None, raise_on_error=True))


def _constants_equal(one, other) -> bool | None:
    """Whether two constants are equal where that is plain: the same once evaluated, or far apart. None otherwise, and
    for all else: math-verify would simplify either for long."""
    from sympy import Expr

    if not all(isinstance(value, Expr) and value.is_number and value.is_finite for value in (one, other)):
        return None
    if one == other or one.doit() == other.doit():
        return True
    try:
        a, b = complex(one.evalf()), complex(other.evalf())
    except TypeError:  # a constant that sympy cannot turn into digits: math-verify may know more of it
        return None
    return False if abs(a - b) > 1e-5 * (1 + abs(a)) else None


@lru_cache(CACHED_GOLDS)
def _parsed_gold(text: str) -> list:
    return _parsed(text)


def _parsed(text: str) -> list:
    """The text as one LaTeX expression, or nothing; never the part of it that happens to make sense."""
    from math_verify import parse

    return parse(
        f"${text}$",
        extraction_config=[_extraction()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,  # a limit of its own would be an alarm
    )


@lru_cache(1)
def _extraction():
    from latex2sympy2_extended.math_normalization import NormalizationConfig
    from math_verify import LatexExtractionConfig

    # Units and boxes are dealt with before: here they would drop letters from expressions, or look for another box.
    normalization = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    return LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)


def _self_test() -> str | None:
    """What is wrong with this installation of math-verify, None if nothing is. Warms the parser up as well."""
    pairs = [("x^2+2x+1", "(x+1)^2", True), ("3\\sqrt{2}", "\\sqrt{18}", True), ("\\frac{\\pi}{2}", "\\pi", False)]
    for gold, candidate, right in pairs:
        if _equal(gold, candidate) is not right:
            return f"math-verify says that {candidate} is {'not ' if right else ''}equal to {gold}"
    return None


def _read_line(descriptor: int) -> bytes | None:
    """A line with its end; None at the end of the stream. Nobody writes a second line before the first is answered."""
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
    """Move the channel away from descriptors 0 and 1, on which libraries may print."""
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
    except Exception as error:  # whatever it is, the client has to hear of it
        fault = f"{type(error).__name__}: {error}"
    _write_line(target, {"fault": fault} if fault else {"ready": "yes"})
    if fault is None:
        gc.freeze()  # what is there now stays shared with the children
        gc.set_threshold(100_000)  # the parser makes many short-lived objects: a third of its time went to collection
        Zygote(source, target, deadline, memory_mb, parent).run()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
