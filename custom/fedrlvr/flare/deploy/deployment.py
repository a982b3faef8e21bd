"""FLARE's server and sites on one machine, from the startup kits that provisioning made: started, awaited, stopped."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from nvflare.fuel.flare_api.api_spec import TargetType
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deploy.project import Project, is_free
from fedrlvr.flare.lead.session import SAYS_NO, Line, open_kit
from fedrlvr.processes import end_marked, marked, start, wait_until

READY_WITHIN = 180.0  # seconds from start until every site is registered
GONE_WITHIN = 60.0  # and from a shutdown until every process is gone
UNTOLD_WITHIN = 5.0  # the same where the server could not be told to shut down


class DeploymentError(RuntimeError):
    """A server or site that does not start; the message names the log to look into."""


class Deployment:
    """`kits` is the folder of startup kits, one a participant. `python`'s folder comes first on everybody's PATH."""

    def __init__(
        self, kits: Path, project: Project, python: Path | None = None, environment: Mapping[str, str] | None = None
    ):
        self.kits, self.project = kits, project
        self._python = python or Path(sys.executable)
        self._environment = dict(os.environ if environment is None else environment)
        self._mark = kits.parent / "mark"
        self._ready = kits.parent / "ready"
        self._log = kits.parent / "admin.log"

    def kit(self, name: str) -> Path:
        return self.kits / name

    def processes(self) -> list[psutil.Process]:
        """Whatever runs of it: daemons, FLARE, jobs, workers."""
        return marked(self._mark.read_text()) if self._mark.exists() else []

    @property
    def started(self) -> bool:
        """Whether everybody runs, and whoever started them saw every site registered."""
        commands = [" ".join(process.cmdline()) for process in self.processes()]
        everybody = (self.project.server, *self.project.sites)
        return self._ready.exists() and all(
            any(f"{self.kit(name)}/startup" in command for command in commands) for name in everybody
        )

    def start(self) -> None:
        """Returns when every site is registered. Raises DeploymentError, and leaves nothing running then."""
        if not is_free(self.project.port):
            raise DeploymentError(f"port {self.project.port} is taken on this machine: end what listens there first")
        self._mark.write_text(mark := uuid.uuid4().hex)
        path = f"{self._python.parent}{os.pathsep}{self._environment.get('PATH', '')}"
        environment = self._environment | {"PATH": path}
        try:
            for name in (self.project.server, *self.project.sites):
                command = [str(self.kit(name) / "startup" / "start.sh")]  # it leaves a daemon behind
                start(command, self._console(name), environment, mark, cwd=self.kit(name)).wait()
            self._wait_until_ready()
            self._ready.touch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """Shut down in order, wait until every process is gone, by force at the end; how many had to be forced."""
        self._ready.unlink(missing_ok=True)
        if not self.processes():
            return 0
        within = GONE_WITHIN
        line = Line(open_kit(self.kit(self.project.admin)), self._log, first_patience=0.0, patience=0.0)
        try:
            line.call(_shut_down)
        except SAYS_NO as reason:
            self._note(f"not shut down by the server: {reason}")
            within = UNTOLD_WITHIN
        finally:
            line.close()
        for name in (self.project.server, *self.project.sites):
            (self.kit(name) / "shutdown.fl").touch()  # the daemons' own sign not to start FLARE again
        wait_until(lambda: not self.processes(), within, pause=0.2)
        left = self.processes()
        end_marked(self._mark.read_text())
        for name in (self.project.server, *self.project.sites):
            for file in ("shutdown.fl", "pid.fl", "daemon_pid.fl"):
                (self.kit(name) / file).unlink(missing_ok=True)
        return len(left)

    def _wait_until_ready(self) -> None:
        line = Line(open_kit(self.kit(self.project.admin)), self._log, first_patience=READY_WITHIN, pause=0.5)
        missing = set(self.project.sites)
        try:
            if not wait_until(lambda: missing <= self._registered(line), READY_WITHIN, pause=0.5):
                name = min(missing - self._registered(line), default=self.project.server)
                raise DeploymentError(f"{name} did not register in {READY_WITHIN:.0f} s: see {self._console(name)}")
        finally:
            line.close()

    def _registered(self, line: Line) -> set[str]:
        try:
            return {client.name for client in line.call(lambda session: session.get_connected_client_list())}
        except SAYS_NO as reason:  # RunFailed among them
            raise DeploymentError(f"{reason}: see {self._console(self.project.server)}") from reason

    def _console(self, name: str) -> Path:
        return self.kit(name) / "console.log"

    def _note(self, text: str) -> None:
        with open(self._log, "a", encoding="utf-8") as log:
            log.write(text + "\n")


def _shut_down(session: Session) -> None:
    for job in session.list_jobs():
        if job.get("status") == "RUNNING":
            with suppress(*SAYS_NO):  # one that died with an earlier server stays marked as running
                session.abort_job(job["job_id"])
    session.shutdown(TargetType.ALL, wait=False)
