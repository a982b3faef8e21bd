"""A proof of concept: FLARE's server and sites on this machine, on loopback, separate from any other FLARE."""

import shutil
from pathlib import Path

from fedrlvr.flare.deploy.deployment import Deployment
from fedrlvr.flare.deploy.project import LOOPBACK, free_port, provision
from fedrlvr.flare.lead.simulated_sites import check_folder
from fedrlvr.flare.site.site_kit import server_kit, site_kit, write_new
from fedrlvr.run import claim
from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import template

LOCK = "poc.lock"  # also marks a folder as a proof of concept's


class Poc:
    """Everything is under `folder`: the startup kits in `flare/`, and `project.yml` once they are complete."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self._command = f"python poc/run.py up --workspace {self.folder}"
        self._project = self.folder / "project.yml"

    @property
    def deployment(self) -> Deployment:
        """Raises SettingsError if none was prepared here."""
        if not self._project.exists():
            raise SettingsError(f"no proof of concept in {self.folder}; start one: {self._command}")
        return Deployment(self._project, self.folder / "flare")

    def running(self) -> Deployment:
        """The deployment, if it runs. Raises SettingsError."""
        deployment = self.deployment
        if not deployment.started:
            raise SettingsError(f"the proof of concept in {self.folder} does not run; start it: {self._command}")
        return deployment

    def up(self, project: Path, sites: list[str], policy: str | None, port: int | None) -> bool:
        """Prepare it from the template `project` if it is new, and start it; returns False if it runs already. The
        sites' logs, ledgers and state stay after `down`. After an interrupted start everything is started again.

        Raises DeploymentError if it does not start, and ValueError: it was made with other sites, another port or
        policy, the folder holds other things or another command uses it, names or port cannot be used, or FLARE fails.
        """
        if not self._project.exists():
            self._check_folder()
        with claim(self.folder, LOCK):
            if self._project.exists():
                self._check_same(sites, policy, port)
            else:
                self._prepare(project, sites, policy or "open", port)
            deployment = self.deployment
            if deployment.started:
                return False
            deployment.stop()
            deployment.start()
            return True

    def down(self) -> int:
        """Returns how many processes had to be killed. Raises SettingsError if there is no proof of concept."""
        deployment = self.deployment
        with claim(self.folder, LOCK):
            return deployment.stop()

    def _check_folder(self) -> None:
        """Check that nothing else is in the folder. Raises ValueError."""
        check_folder(self.folder)
        if self.folder.is_file():
            raise SettingsError(f"--workspace: {self.folder} is a file; expected a folder, or a path that is not there")
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / LOCK).exists():
            raise SettingsError(
                f"--workspace: {self.folder} holds other things than a proof of concept; expected an empty folder, "
                "or a path that does not exist"
            )

    def _check_same(self, sites: list[str], policy: str | None, port: int | None) -> None:
        deployment = self.deployment
        kits = [deployment.kit(site) / "local" for site in sites]
        asked_port = port or deployment.port
        for what, made, asked in (("sites", deployment.sites, sites), ("--port", deployment.port, asked_port)):
            if made != asked:
                raise SettingsError(f"{self.folder} was made with {what} {made}, not {asked}; run `down` and remove it")
        if policy and any((local / "policy.yaml").read_text() != template(f"{policy}.yaml") for local in kits):
            raise SettingsError(
                f"--policy: the sites in {self.folder} have another than {policy}, and none of their files is written "
                f"over; edit {kits[0] / 'policy.yaml'} and the same file of the others, or run `down` and remove it"
            )

    def _prepare(self, template: Path, sites: list[str], policy: str, port: int | None) -> None:
        """`nvflare provision`, and `fedrlvr site init` for server and sites. `project.yml` is put in place last: a
        folder without it is prepared again."""
        flare = self.folder / "flare"
        shutil.rmtree(flare, ignore_errors=True)  # of an interrupted attempt
        kits = provision(template, flare, LOOPBACK, free_port(port), sites)
        server = kits / LOOPBACK / "local"
        write_new(server, server_kit(server))
        for site in sites:
            write_new(kits / site / "local", site_kit(kits / site / "local", policy, {}))
        (flare / "project.yml").rename(self._project)
