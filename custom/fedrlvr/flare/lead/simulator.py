"""Run the recipe in FLARE's simulator as a child process: its log in a file, its event log in sight, no process left
behind.

The child holds the other end of a pipe from its parent. When the pipe breaks - the parent ended, was interrupted or was
killed - the child ends every process of the run, which it knows by a mark in their environment.
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

from fedrlvr.config import JobConfig
from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.site.lockdown import JOB_CLASSES
from fedrlvr.flare.site.site_kit import template
from fedrlvr.processes import MARK, die_with, end, end_marked, running, start
from fedrlvr.run import RecipeInputs, RunFailed, claim, set_aside
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.site_config import SiteConfig

if TYPE_CHECKING:
    from nvflare.recipe import SimEnv

    from fedrlvr.flare.recipe import PubSwapRecipe

POLL = 0.2


# As at a real site: a job may name our classes and no others, and logs stay where they are.
RESOURCES = {"format_version": 2, "class_allow_list": sorted(JOB_CLASSES), "allow_log_streaming": False}
# What has the simulator keep to what a real site's `local/privacy.json` says.
KEPT_TO = {"components": [{"id": "fedrlvr_simulated_site", "path": "fedrlvr.flare.site.gate.SimulatedSite"}]}


class SimulationFailed(RunFailed):
    """The simulated job did not end well; the message says why, as far as the event log knows."""


class Simulation:
    """One run under `folder`: `flare/` is FLARE's workspace, `flare.log` what it prints."""

    def __init__(self, folder: Path, inputs: RecipeInputs, sites: dict[str, SiteConfig]):
        """A run to go on with is one that was under `folder`."""
        check_folder(folder)
        self.folder, self._job = folder, inputs.job
        self.flare = folder / "flare" / inputs.job.name
        self.log_path = folder / "flare.log"
        self.server_folder = self.flare / "server" / "simulate_job" / "fedrlvr"
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen | None = None
        self._claim = claim(folder)
        if inputs.resume:
            set_aside(folder / "flare")  # FLARE's simulator empties it when it starts
        self._write_sites(sites)
        values = vars(inputs) | {"job": inputs.job.model_dump(mode="json"), "sites": list(sites)}
        (folder / "job.json").write_text(json.dumps(values, indent=2))

    def events(self) -> Iterator[dict | None]:
        """Start the run and yield the server's event log, line by line as it is written; None when nothing is new.

        Raises:
            SimulationFailed: the job ended with an error.
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
                raise SimulationFailed(reason or f"FLARE's simulator ended with code {code}; see {self.log_path}")
        finally:
            self.close()

    def close(self) -> None:
        """End whatever of this run is still there."""
        if self._process is not None:
            end_marked(self._mark)
            end(self._process)
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
            values = config.model_dump(mode="json", exclude_none=True)
            (local / f"fedrlvr.{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        (local / "fedrlvr.server.yaml").write_text(yaml.safe_dump({"state_dir": str(self.folder / "server")}))
        (local / "resources.json").write_text(json.dumps(RESOURCES, indent=2))
        if any(config.policy for config in sites.values()):
            (local / "privacy.json").write_text(json.dumps(json.loads(template("privacy.json")) | KEPT_TO, indent=2))


def check_folder(folder: Path) -> None:
    """Raises ValueError for a folder that FLARE's simulator cannot work under."""
    if any(character.isspace() for character in str(folder)):
        raise ValueError(f"--workspace: FLARE's simulator cannot work under a path with a space in it: {folder}")


def prepared_recipe(folder: Path) -> tuple[PubSwapRecipe, SimEnv]:
    """What a Simulation under `folder` is to run, and where."""
    from nvflare.recipe import SimEnv  # FLARE's recipes look at the program's own arguments

    from fedrlvr.flare.recipe import PubSwapRecipe

    inputs = json.loads((folder / "job.json").read_text())
    sites, job = inputs.pop("sites"), JobConfig.model_validate(inputs.pop("job"))
    where = SimEnv(clients=sites, num_threads=len(sites), workspace_root=str(folder / "flare"))
    return PubSwapRecipe(job, **inputs), where


def main(folder: Path) -> None:
    die_with(lifeline=0, last=lambda: end_marked(os.environ[MARK]))
    recipe, where = prepared_recipe(folder)
    recipe.execute(where)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
