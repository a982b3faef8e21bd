"""A proof of concept: FLARE's server and sites on this machine, on loopback, apart from any other that the user has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from fedrlvr.flare.deploy.deployment import Deployment
from fedrlvr.flare.deploy.project import LOOPBACK, Project, ProjectError, fill_project, free_port, read_project
from fedrlvr.flare.site.site_kit import SITE_FILE, server_kit, site_kit, template, write_new
from fedrlvr.site_config import SiteConfig

DRAFT, LOCK = "project.draft.yml", "lock"
POLICY = "open"  # of every site, unless asked for another


class PocError(RuntimeError):
    """A proof of concept that is not there, does not run, or is another than asked for."""


class Poc:
    """Everything of it is under `folder`: `project.yml`, `flare/` (what `nvflare poc` calls its workspace) and the
    home directory that FLARE writes its settings to."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self._project = self.folder / "project.yml"

    @property
    def project(self) -> Project:
        """Raises PocError where nothing was ever prepared here."""
        if not self._project.exists():
            raise PocError(f"no proof of concept in {self.folder}; start one: {self._command()}")
        return read_project(self._project)

    @property
    def deployment(self) -> Deployment:
        project = self.project
        return Deployment(self.folder / "flare" / project.name / "prod_00", project)

    def running(self) -> Deployment:
        """The deployment, if it runs. Raises PocError."""
        deployment = self.deployment
        if not deployment.started:
            raise PocError(f"the proof of concept in {self.folder} does not run; start it: {self._command()}")
        return deployment

    def up(self, project: Path, sites: list[str], policy: str | None, port: int | None) -> bool:
        """Prepare it if need be, and start it; False if it runs already. What sites keep (log, ledger, state) stays
        over `down` and `up`; one whose start was cut short is ended and started again.

        Raises:
            PocError: it was made with other sites, at another port or under another policy, the folder is somebody
                else's, or FLARE could not prepare it.
            ProjectError: names or port that cannot be used.
            DeploymentError: it does not start.
        """
        if not self._project.exists():
            self._check_folder()
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self._project.exists():
                self._check_same(sites, policy, port)
            else:
                self._prepare(project, sites, policy or POLICY, port)
            deployment = self.deployment
            if deployment.started:
                return False
            deployment.stop()
            deployment.start()
            return True

    def down(self) -> int:
        """How many processes had to be ended by force. Raises PocError where there is none."""
        deployment = self.deployment
        with self._alone():
            return deployment.stop()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise PocError(f"{self.folder} is being started or stopped right now; wait for that to end") from None
        try:
            yield
        finally:
            lock.release()

    def _check_folder(self) -> None:
        """That nothing of anybody's is in the way. Raises PocError, ProjectError."""
        if any(character.isspace() for character in str(self.folder)):
            raise ProjectError(f"--workspace: FLARE cannot work under a path with a space in it: {self.folder}")
        if self.folder.exists() and not self.folder.is_dir():
            raise PocError(f"--workspace: {self.folder} is a file; expected a folder, or none yet")
        found = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if found - {LOCK} and DRAFT not in found:
            raise PocError(
                f"--workspace: {self.folder} holds other things than a proof of concept; expected an empty folder, "
                "or none yet"
            )

    def _check_same(self, sites: list[str], policy: str | None, port: int | None) -> None:
        project = self.project
        kits = [self.deployment.kit(site) / "local" for site in project.sites]
        for what, made, asked in (
            ("sites", list(project.sites), sites),
            ("--port", project.port, port or project.port),
        ):
            if made != asked:
                raise PocError(f"{self.folder} was made with {what} {made}, not {asked}; `down`, and remove it, first")
        if policy and any((local / "policy.yaml").read_text() != template(f"{policy}.yaml") for local in kits):
            raise PocError(
                f"--policy: the sites in {self.folder} have another than {policy}, and none of their files is written "
                f"over; edit {kits[0] / 'policy.yaml'} and the others', or `down`, and remove it, first"
            )

    def _prepare(self, project: Path, sites: list[str], policy: str, port: int | None) -> None:
        """`nvflare poc prepare`, with a home of its own, and `fedrlvr site init` of everybody; the project file is
        last, so that half of it is none."""
        filled = fill_project(yaml.safe_load(project.read_text()), LOOPBACK, free_port(port), sites)
        draft = self.folder / DRAFT
        draft.write_text(yaml.safe_dump(filled, sort_keys=False))
        for name in ("flare", "home"):
            shutil.rmtree(self.folder / name, ignore_errors=True)  # of one that was cut short
        (self.folder / "home").mkdir()
        environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "NVFLARE_POC_WORKSPACE": str(self.folder / "flare"),
        }
        command = [str(Path(sys.executable).parent / "nvflare"), "poc", "prepare", "-i", str(draft), "--force"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PocError(
                f"nvflare poc prepare ended with code {done.returncode}: {(done.stderr or done.stdout)[-800:]}"
            )
        kits = self.folder / "flare" / filled["name"] / "prod_00"
        server = kits / LOOPBACK / "local"
        (server / "resources.json").unlink()  # FLARE's own of this minute: its default, kept in other folders
        write_new(server, server_kit(server))
        for site in sites:
            write_new(kits / site / "local", site_kit(kits / site / "local", policy, {}))
        draft.rename(self._project)

    def _command(self) -> str:
        return f"python poc/run.py up --workspace {self.folder}"


def tell_site(local: Path, config: SiteConfig) -> None:
    """Write anew what a proof of concept's site says of its model and problems, which it reads at a job's start."""
    config.model_copy(update={"policy": Path("policy.yaml")}).write(local / SITE_FILE)
