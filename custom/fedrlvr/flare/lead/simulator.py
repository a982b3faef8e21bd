"""Run the recipe in FLARE's simulator, a child process: its output goes to a file, its event log is followed, and no
process is left behind.

The child holds one end of a pipe from its parent. When the pipe breaks because the parent ended or was killed, the
child ends every process of the run, which it finds by a mark in their environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.site.site_kit import JOB_CLASSES, template
from fedrlvr.processes import MARK, die_with, end, end_marked, running, start
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, set_aside
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.site_config import SiteConfig

if TYPE_CHECKING:
    from nvflare.recipe import SimEnv

    from fedrlvr.flare.recipe import PubSwapRecipe

POLL = 0.2
# As at a real site: a job may name only our classes, and logs are not sent to the server.
RESOURCES = {"format_version": 2, "class_allow_list": sorted(JOB_CLASSES), "allow_log_streaming": False}
# Makes the simulator apply `local/privacy.json` as a real site does.
KEPT_TO = {"components": [{"id": "fedrlvr_simulated_site", "path": "fedrlvr.flare.workarounds.SimulatedSite"}]}


class Simulation:
    """One run under `folder`: `flare/` is FLARE's workspace, `flare.log` what it prints."""

    def __init__(self, folder: Path, spec: RunSpec, sites: dict[str, SiteConfig]):
        """A run that is resumed must have been under the same `folder`."""
        check_folder(folder)
        self.folder, self._job = folder, spec.job
        self.flare = folder / "flare" / spec.job.name
        self.log_path = folder / "flare.log"
        self.server_folder = self.flare / "server" / "simulate_job" / "fedrlvr"
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen | None = None
        self._claim = claim(folder)
        if spec.resume:
            set_aside(folder / "flare")  # FLARE's simulator empties it when it starts
        self._write_sites(sites)
        (folder / "job.json").write_text(json.dumps({"sites": list(sites), "spec": spec.model_dump(mode="json")}))

    def run(self, hear: Hear) -> None:
        """See `Run`."""
        for event in self.events():
            hear(event)

    def events(self) -> Iterator[dict | None]:
        """Start the run and yield the server's event log as it grows; None when there is nothing new.

        Raises RunFailed if the job ended with an error.
        """
        with open(self.log_path, "ab") as log:
            log.writelines(f"{line}\n".encode() for line in Deadlines.of(self._job).describe())
        command = [sys.executable, "-m", "fedrlvr.flare.lead.simulator", str(self.folder)]
        self._process = start(command, self.log_path, mark=self._mark, stdin=subprocess.PIPE)
        try:
            reason = None
            for event in self._follow(self.server_folder / EVENTS_FILE):
                if event and event["event"] == "stopped":
                    reason = event["reason"]
                yield event
            code = end(self._process)
            if reason or code:
                raise RunFailed(reason or f"FLARE's simulator ended with code {code}; see {self.log_path}")
        finally:
            self.close()

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None:
            end(self._process)
            end_marked(self._mark)
        self._claim.release()

    def _follow(self, path: Path) -> Iterator[dict | None]:
        rest, position = "", 0
        while True:
            alive = running(self._process)
            if path.exists():
                with open(path, encoding="utf-8") as file:
                    file.seek(position)
                    rest += file.read()
                    position = file.tell()
            *lines, rest = rest.split("\n")
            yield from (json.loads(line) for line in lines)
            if not alive:
                return
            yield None
            time.sleep(POLL)

    def _write_sites(self, sites: dict[str, SiteConfig]) -> None:
        local = self.flare / "local"
        local.mkdir(parents=True, exist_ok=True)
        for name, config in sites.items():
            config.write(local / f"fedrlvr.{name}.yaml")
        (local / "fedrlvr.server.yaml").write_text(yaml.safe_dump({"state_dir": str(self.folder / "server")}))
        (local / "resources.json").write_text(json.dumps(RESOURCES, indent=2))
        if any(config.policy for config in sites.values()):
            (local / "privacy.json").write_text(json.dumps(json.loads(template("privacy.json")) | KEPT_TO, indent=2))


def check_folder(folder: Path) -> None:
    """Raises ValueError if FLARE's simulator cannot work under this folder."""
    if any(character.isspace() for character in str(folder)):
        raise ValueError(f"--workspace: FLARE's simulator cannot work under a path with a space in it: {folder}")


def prepared_recipe(folder: Path) -> tuple[PubSwapRecipe, SimEnv]:
    """What the `Simulation` under `folder` runs, and where."""
    from nvflare.recipe import SimEnv  # FLARE's recipes read the program's own arguments when imported

    from fedrlvr.flare.recipe import PubSwapRecipe

    inputs = json.loads((folder / "job.json").read_text())
    sites, spec = inputs["sites"], RunSpec.model_validate(inputs["spec"])
    where = SimEnv(clients=sites, num_threads=len(sites), workspace_root=str(folder / "flare"))
    return PubSwapRecipe(spec), where


def main(folder: Path) -> None:
    die_with(lifeline=0, last=lambda: end_marked(os.environ[MARK]))
    recipe, where = prepared_recipe(folder)
    recipe.execute(where)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
