"""Start a site's worker, ask it, notice when it dies or hangs, and leave no process behind.

Runs in the light process that holds the transport: it imports neither DeepSpeed nor transformers and touches no GPU.
"""

import logging
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIGKILL

from fedrlvr.processes import end, running, start, wait_until
from fedrlvr.protocol.answers import ANSWERS, Failure, Reply
from fedrlvr.protocol.requests import Request
from fedrlvr.types import Adapter
from fedrlvr.worker.launcher import worker_command, worker_environment
from fedrlvr.worker.setup import Ready, SetUp
from fedrlvr.worker.wire import FAILURE, READY, SET_UP, STOP, Frame, receive, send
from fedrlvr.worker.worker_log import WorkerLog

LOGGER = logging.getLogger(__name__)
POLL = 0.05  # seconds between looks at the abort signal and at the process


class Aborted(RuntimeError):
    """The job was aborted while the worker was at work."""


class Supervisor:
    """A `Worker` in a process of its own, or in several ranks under a launcher; one at a time."""

    def __init__(self, setup: SetUp, aborted: Callable[[], bool] = lambda: False):
        self._setup, self._aborted = setup, aborted
        self._config, self._limits = setup.site_config, setup.spec.job.federation
        self.log = WorkerLog(self._config.state_dir / "worker.log")
        self._process: subprocess.Popen | None = None
        self._meeting_place: tempfile.TemporaryDirectory | None = None  # of supervisor and ranks, for its owner only
        self._requests: Connection | None = None
        self._lifelines: list[Connection] = []
        self._ready = False

    @property
    def running(self) -> bool:
        return self._ready and self._process is not None and running(self._process)

    def start(self) -> Ready | Failure:
        """Launch the worker and set it up. Raises Aborted."""
        self.stop()
        limit = self._limits.start_deadline
        deadline, late = time.monotonic() + limit, f"did not start within {limit:g} s"
        self._config.state_dir.mkdir(parents=True, exist_ok=True)
        self._meeting_place = tempfile.TemporaryDirectory(prefix="fedrlvr-", ignore_cleanup_errors=True)
        with socket.socket(socket.AF_UNIX) as server:
            address = str(Path(self._meeting_place.name) / "worker")
            server.bind(address)
            server.listen()
            server.settimeout(POLL)
            failure = self._launch(address) or self._accept(server, deadline, late)
        if failure is not None:
            return failure
        if len(self._lifelines) == 1:  # a rank alone has nobody else to meet
            self._meeting_place.cleanup()
        frame = self._ask(Frame(SET_UP, self._setup.model_dump_json()), deadline, late)
        if frame.kind != READY:
            return Failure.model_validate_json(frame.body)
        self._setup, self._ready = self._setup.model_copy(update={"recover": True}), True
        return Ready.model_validate_json(frame.body)

    def ask(self, request: Request, tensors: Adapter | None = None, ledger: str = "") -> Reply:
        """Send one request and wait for its answer, or for the failure of a worker that died or gave none within the
        job's `step_deadline`; after these two the worker is gone. Raises Aborted where the abort signal was seen; then,
        too, the worker is gone."""
        limit = self._limits.step_deadline
        late = f"gave no answer within federation.step_deadline = {limit:g} s"
        asked = Frame(request.task, request.model_dump_json(), tensors, ledger)
        frame = self._ask(asked, time.monotonic() + limit, late)
        model = Failure if frame.kind == FAILURE else ANSWERS[request.task]
        return model.model_validate_json(frame.body), frame.tensors

    def _ask(self, frame: Frame, deadline: float, late: str) -> Frame:
        if self._process is None or self._requests is None:
            return _failed("the worker is not running")
        if not running(self._process):  # its ranks may have outlived their launcher; nothing watches them now
            return _failed(self._lost("died"))
        try:
            send(self._requests, frame)
            answer = self._wait(deadline, late)
        except (EOFError, OSError):
            return _failed(self._lost("died"))
        if answer.broken:
            self.stop()  # it ends by itself, but must not be asked again before it has
        return answer

    def stop(self, grace: float = 0.0) -> int | None:
        """End the worker: first by asking, if `grace` seconds are given, then by force; returns its exit code."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return None
        if grace > 0 and self._requests is not None and running(process):
            with suppress(OSError):
                send(self._requests, Frame(STOP))
                wait_until(lambda: not running(process), grace)
        for connection in filter(None, [*self._lifelines, self._requests]):
            connection.close()
        self._requests, self._lifelines = None, []
        code = end(process)
        self._meeting_place.cleanup()
        return code

    def _launch(self, address: str) -> Failure | None:
        command = worker_command(self._config, address)
        self.log.begin()
        try:
            self._process = start(command, self.log.path, worker_environment(self._config))
        except OSError as error:
            self._meeting_place.cleanup()
            return Failure.of(f"worker.launch: cannot start {command[0]}: {error.strerror or error}")
        return None

    def _accept(self, server: socket.socket, deadline: float, late: str) -> Failure | None:
        """Take the lifelines of all ranks that reach this machine, then rank 0's request connection, which comes when
        all ranks have met. Each says first which it is."""
        while self._requests is None:
            try:
                connection = Connection(server.accept()[0].detach())
            except TimeoutError:
                if failure := self._failed_start(deadline, late):
                    return failure
                continue
            if connection.recv_bytes() == b"requests":
                self._requests = connection
            else:
                self._lifelines.append(connection)
        return None

    def _failed_start(self, deadline: float, late: str) -> Failure | None:
        self.log.bound()
        if self._aborted():
            self.stop()
            raise Aborted("aborted while the worker started")
        if not running(self._process):
            # Before its set-up a worker has seen nothing private, so its last log line may be sent.
            last = next(iter(self.log.last_lines(1)), "(nothing)")
            return Failure.of(self._lost(f"died while starting: {last[-500:]}"))
        return Failure.of(self._lost(late, within=0.0)) if time.monotonic() > deadline else None

    def _wait(self, deadline: float, late: str) -> Frame:
        connection = self._requests
        while not connection.poll(POLL):
            self.log.bound()
            if self._aborted():
                self.stop()
                raise Aborted("aborted while the worker was at work")
            if not running(self._process) and not connection.poll(0):
                raise EOFError
            if time.monotonic() > deadline:
                return _failed(self._lost(late, within=0.0))
        return receive(connection)

    def _lost(self, how: str, within: float = 5.0) -> str:
        """End what is left of a worker that can no longer be used; returns the reason. A dead worker's process has
        `within` seconds to end with an exit code."""
        ended = wait_until(lambda: not running(self._process), within)  # a connection breaks before its process ends
        code = self.stop()
        reason = f"worker {how}" + (f" (exit code {code})" if ended else "")
        if ended and self._killed(code):
            reason += (
                ": killed by signal 9, probably because memory ran out; lower micro_batch_size "
                f"({self._config.micro_batch_size}) or generation_batch_size in the site's file"
            )
        LOGGER.error("%s; see %s", reason, self.log.path)
        return f"{reason}; see {self.log.path}"

    def _killed(self, code: int | None) -> bool:
        """Whether a rank died by signal 9. Launchers hand its code on in one byte, negative or as a shell does;
        torchrun says it in the log only."""
        if code is not None and code % 256 in (256 - SIGKILL, 128 + SIGKILL):
            return True
        return any("Signal 9 " in line for line in self.log.last_lines(60))


def _failed(reason: str) -> Frame:
    return Frame(FAILURE, Failure.of(reason).model_dump_json())
