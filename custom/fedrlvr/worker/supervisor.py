"""Start a site's worker, talk to it, notice when it dies or hangs, and leave no process behind.

Runs in the light process that holds the transport; it imports neither DeepSpeed nor transformers and touches no GPU.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from fedrlvr.config import JobConfig
from fedrlvr.run_identity import new_run
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter
from fedrlvr.worker.launcher import worker_command, worker_environment
from fedrlvr.worker.wire import receive, send

POLL = 0.05  # seconds between looks at the abort signal and at the process


class WorkerError(RuntimeError):
    """The worker answered a request with an error, died, or did not answer in time."""


class Aborted(RuntimeError):
    """The job was aborted while the worker was at work."""


class Supervisor:
    """One worker at a time. `start` may be called again after the worker was lost: the next one goes on from the last
    checkpoint of the same `run` (default: one of its own). With `resume` the first one does so, too."""

    def __init__(
        self,
        job: JobConfig,
        site: str,
        config: SiteConfig,
        manifest: str,
        aborted: Callable[[], bool] = lambda: False,
        propose_from: str = "local",
        run: str | None = None,
        resume: bool = False,
    ):
        self.job, self.site, self.config, self.manifest = job, site, config, manifest
        self.aborted, self.propose_from = aborted, propose_from
        self.run, self._recover = run or new_run(), resume
        self.adapter_spec: dict | None = None
        self.private_problems, self.rounds_done = 0, 0
        self.ledger = ""  # hash of the ledger's last line, as the worker's checkpoint knew it
        self.log_path = config.state_dir / "worker.log"
        self._process: subprocess.Popen | None = None
        self._requests: Connection | None = None
        self._lifelines: list[Connection] = []

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None and self.adapter_spec is not None

    def start(self) -> None:
        """Launch the worker and set it up. Raises WorkerError with the reason if that fails."""
        self.stop()
        limit = self.job.federation.start_deadline
        deadline, late = time.monotonic() + limit, f"did not start within {limit:g} s"
        self.config.state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fedrlvr-") as folder, socket.socket(socket.AF_UNIX) as server:
            address = str(Path(folder) / "worker")
            server.bind(address)
            server.listen()
            server.settimeout(POLL)
            self._launch(address)
            self._accept(server, deadline, late)
        answer, _ = self._ask(
            {
                "task": "setup",
                "job": self.job.model_dump(mode="json"),
                "site": self.site,
                "site_config": self.config.model_dump(mode="json"),
                "manifest": self.manifest,
                "propose_from": self.propose_from,
                "run": self.run,
                "recover": self._recover,
            },
            None,
            deadline,
            late,
        )
        self.adapter_spec, self.private_problems = answer["adapter_spec"], answer["private_problems"]
        self.rounds_done, self.ledger = answer["rounds_done"], answer["ledger"]
        self._recover = True

    def request(self, message: dict, tensors: Adapter | None = None) -> tuple[dict, Adapter | None]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: an error as answer, a dead worker, or none within the job's `step_deadline`; after the last
                two the worker is gone.
            Aborted: the abort signal was seen; the worker is gone.
        """
        limit = self.job.federation.step_deadline
        late = f"gave no answer within federation.step_deadline = {limit:g} s"
        return self._ask(message, tensors, time.monotonic() + limit, late)

    def _ask(self, message: dict, tensors: Adapter | None, deadline: float, late: str) -> tuple[dict, Adapter | None]:
        if self._process is None or self._requests is None:
            raise WorkerError("the worker is not running")
        if self._process.poll() is not None:  # its ranks may have outlived their launcher; nothing watches them now
            raise self._lost("died")
        try:
            send(self._requests, message, tensors)
            answer, result = self._wait(deadline, late)
        except (EOFError, OSError):
            raise self._lost("died") from None
        if answer.get("broken"):
            self.stop()  # it ends by itself, but must not be asked again before it has
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer, result

    def stop(self, grace: float = 0.0) -> None:
        """End the worker: asked, if `grace` seconds are given, and by force."""
        process, self._process, self.adapter_spec = self._process, None, None
        if process is None:
            return
        if grace > 0 and self._requests is not None and process.poll() is None:
            try:
                send(self._requests, {"task": "stop", "state_dir": str(self.config.state_dir)})
                process.wait(grace)
            except (OSError, subprocess.TimeoutExpired):
                pass  # it gets no further chance
        for connection in [*self._lifelines, *([self._requests] if self._requests else [])]:
            connection.close()
        self._requests, self._lifelines = None, []
        with suppress(ProcessLookupError):  # the whole group may be gone already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _launch(self, address: str) -> None:
        command, environment = worker_command(self.config, address), worker_environment(self.config)
        try:
            with open(self.log_path, "ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
                )
        except OSError as error:
            raise WorkerError(f"worker.launch: cannot start {command[0]}: {error.strerror or error}") from None

    def _accept(self, server: socket.socket, deadline: float, late: str) -> None:
        """Lifelines of all ranks that reach this machine, then rank 0's request connection, which comes when all have
        met; each says first which it is."""
        while self._requests is None:
            try:
                connection = Connection(server.accept()[0].detach())
            except TimeoutError:
                self._check_start(deadline, late)
                continue
            if connection.recv_bytes() == b"requests":
                self._requests = connection
            else:
                self._lifelines.append(connection)

    def _check_start(self, deadline: float, late: str) -> None:
        if self.aborted():
            self.stop()
            raise Aborted("aborted while the worker started")
        if self._process.poll() is not None:
            # Before its set-up a worker has seen nothing private, so its last words may be told.
            raise self._lost(f"died while starting: {self._last_line()}")
        if time.monotonic() > deadline:
            raise self._lost(late)

    def _wait(self, deadline: float, late: str) -> tuple[dict, Adapter | None]:
        connection = self._requests
        while not connection.poll(POLL):
            if self.aborted():
                self.stop()
                raise Aborted("aborted while the worker was at work")
            if self._process.poll() is not None and not connection.poll(0):
                raise EOFError
            if time.monotonic() > deadline:
                raise self._lost(late)
        return receive(connection)

    def _lost(self, how: str) -> WorkerError:
        with suppress(subprocess.TimeoutExpired):  # its connection breaks a moment before its exit code is there
            self._process.wait(1.0)
        code = self._process.poll()
        self.stop()
        ended = "" if code is None else f" (exit code {code})"
        return WorkerError(f"worker {how}{ended}; see {self.log_path}")

    def _last_line(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines() if self.log_path.exists() else []
        return lines[-1][-500:] if lines else "(nothing)"
