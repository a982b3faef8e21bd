"""A proof of concept: FLARE's server and sites on this machine, on loopback, apart from any other that the user has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from fedrlvr.federation.deployment import Deployment
from fedrlvr.federation.project import LOOPBACK, Project, ProjectError, fill_project, free_port, read_project
from fedrlvr.federation.site_files import settle_server, settle_site


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
        if not deployment.processes():
            raise PocError(f"the proof of concept in {self.folder} does not run; start it: {self._command()}")
        return deployment

    def up(self, template: Path, templates: Path, sites: list[str], policy: str | None, port: int | None) -> bool:
        """Prepare it if need be, and start it; False if it runs already. What sites keep (log, ledger, state) stays
        over `down` and `up`.

        Raises:
            PocError: it was made with other sites or at another port, or FLARE could not prepare it.
            ProjectError: names or port that cannot be used.
            DeploymentError: it does not start.
        """
        if self._project.exists():
            self._check_same(sites, port)
        else:
            self._prepare(template, sites, port)
            policy = policy or "open"
        deployment = self.deployment
        if policy is not None:
            for site in deployment.project.sites:
                settle_site(deployment.kit(site) / "local", templates, policy)
        if deployment.processes():
            return False
        deployment.start()
        return True

    def _check_same(self, sites: list[str], port: int | None) -> None:
        project = self.project
        for what, made, asked in (
            ("sites", list(project.sites), sites),
            ("--port", project.port, port or project.port),
        ):
            if made != asked:
                raise PocError(f"{self.folder} was made with {what} {made}, not {asked}; `down`, and remove it, first")

    def _prepare(self, template: Path, sites: list[str], port: int | None) -> None:
        """`nvflare poc prepare`, with a home of its own; the project file is last, so that half of it is none."""
        if any(character.isspace() for character in str(self.folder)):
            raise ProjectError(f"--workspace: FLARE cannot work under a path with a space in it: {self.folder}")
        filled = fill_project(yaml.safe_load(template.read_text()), LOOPBACK, free_port(port), sites)
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        draft = self.folder / "project.draft.yml"
        draft.write_text(yaml.safe_dump(filled, sort_keys=False))
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
        settle_server(kits / LOOPBACK / "local", self.folder / "flare")
        draft.rename(self._project)

    def _command(self) -> str:
        return f"python poc/run.py up --workspace {self.folder}"
