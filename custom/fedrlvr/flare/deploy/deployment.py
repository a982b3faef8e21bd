"""Start, wait for and stop FLARE's server and sites on one machine, from the startup kits that provisioning made."""

import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import psutil
from nvflare.fuel.flare_api.api_spec import TargetType
from nvflare.fuel.flare_api.flare_api import Session

from fedrlvr.flare.deploy.project import is_free
from fedrlvr.flare.lead.session import FlareSession, abort_anyway, open_kit
from fedrlvr.processes import OWNER_ONLY, end_marked, marked, start, wait_until
from fedrlvr.run import RunFailed
from fedrlvr.settings_file import SettingsError, read_yaml

# Seconds to wait
READY_WITHIN = 180.0  # from start until every site is registered
GONE_WITHIN = 60.0  # from a shutdown until every process is gone
GONE_WITHOUT_SHUTDOWN = 5.0  # the same if the server could not be asked to shut down


class DeploymentError(RuntimeError):
    """A server or site does not start. The message names the log file to read."""


class Deployment:
    """The participants of the file `project`, with the kits that provisioning made of it under `out`. `admin` may shut
    the system down, `lead` may submit jobs. The folder of `python` comes first in every process's PATH."""

    def __init__(
        self, project: Path, out: Path, python: Path = Path(sys.executable), environment: Mapping = os.environ
    ):
        """Raises SettingsError if the file cannot be read or lacks one server, its sites, a project admin or a lead."""
        values = read_yaml(project)
        try:
            people = values["participants"]
            ((self.server, self.port),) = [(p["name"], p["fed_learn_port"]) for p in people if p["type"] == "server"]
            self.sites = [p["name"] for p in people if p["type"] == "client"]
            self._daemons = [self.server, *self.sites]
            self.admin = next(p["name"] for p in people if p.get("role") == "project_admin")
            self.lead = next(p["name"] for p in people if p.get("role") == "lead")
            self._folder = out / values["name"]
        except (KeyError, TypeError, ValueError, StopIteration):
            reason = "not a project file with a server, sites, a project admin and a lead"
            raise SettingsError(f"{project}: {reason}") from None
        self._environment = environment | {"PATH": f"{python.parent}{os.pathsep}{environment.get('PATH', '')}"}
        self._mark, self._ready, self._log = (self._folder / name for name in ("mark", "ready", "admin.log"))

    def kit(self, name: str) -> Path:
        return self._folder / "prod_00" / name

    def processes(self) -> list[psutil.Process]:
        """Its running processes: daemons, FLARE, jobs, workers."""
        return marked(self._mark.read_text()) if self._mark.exists() else []

    @property
    def started(self) -> bool:
        """Whether server and sites run, and every site had registered when they were started."""
        commands = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                commands.append(" ".join(process.cmdline()))
        return self._ready.exists() and all(
            any(f"{self.kit(name)}/startup" in command for command in commands) for name in self._daemons
        )

    def start(self) -> None:
        """Returns when every site is registered. On an error nothing is left running. Raises DeploymentError."""
        if not is_free(self.port):
            raise DeploymentError(f"port {self.port} is taken on this machine: end what listens there first")
        self._mark.write_text(mark := uuid.uuid4().hex)
        try:
            for name in self._daemons:
                command = [str(self.kit(name) / "startup" / "start.sh")]  # it leaves a daemon behind
                how = {"cwd": self.kit(name), "umask": OWNER_ONLY}
                start(command, self._console(name), self._environment, mark, **how).wait()
            self._wait_until_ready()
            self._ready.touch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """Shut down, wait until every process is gone, and kill what is left; returns how many had to be killed."""
        self._ready.unlink(missing_ok=True)
        if not self.processes():
            return 0
        within = GONE_WITHIN
        try:
            with self._session(first_patience=0.0, patience=0.0) as session:
                session.call("an error", _shut_down)
        except RunFailed as reason:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(f"not shut down by the server: {reason}\n")
            within = GONE_WITHOUT_SHUTDOWN
        for name in self._daemons:
            (self.kit(name) / "shutdown.fl").touch()  # tells the daemons not to restart FLARE
        wait_until(lambda: not self.processes(), within, pause=0.2)
        left = self.processes()
        end_marked(self._mark.read_text())
        for name in self._daemons:
            for file in ("shutdown.fl", "pid.fl", "daemon_pid.fl"):
                (self.kit(name) / file).unlink(missing_ok=True)
        return len(left)

    def _session(self, **patience: float) -> closing[FlareSession]:
        return closing(FlareSession(open_kit(self.kit(self.admin)), self._log, **patience))

    def _wait_until_ready(self) -> None:
        missing = set(self.sites)
        try:
            with self._session(first_patience=READY_WITHIN, pause=0.5) as session:
                if wait_until(lambda: missing <= set(session.sites()), READY_WITHIN, pause=0.5):
                    return
                name = min(missing - set(session.sites()), default=self.server)
        except RunFailed as reason:
            raise DeploymentError(f"{reason}: see {self._console(self.server)}") from reason
        raise DeploymentError(f"{name} did not register in {READY_WITHIN:.0f} s: see {self._console(name)}")

    def _console(self, name: str) -> Path:
        return self.kit(name) / "console.log"


def _shut_down(session: Session) -> None:
    for job in session.list_jobs():
        if job.get("status") == "RUNNING":
            abort_anyway(session, job["job_id"])
    session.shutdown(TargetType.ALL, wait=False)
