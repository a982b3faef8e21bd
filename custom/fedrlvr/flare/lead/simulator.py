"""Run the recipe in FLARE's simulator, a child process: its output goes to a file, its event log is followed, and no
process is left behind.

FLARE's simulator ends when all its clients have, and so never where one of them stands still. It gets a little time
after the run's last event.

The child holds one end of a pipe from its parent. When the pipe breaks because the parent ended or was killed, the
child ends every process of the run, which it finds by a mark in their environment.
"""

import json
import math
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.lead.simulated_sites import check_folder, simulated_workspace
from fedrlvr.flare.live_events import GrowingLog
from fedrlvr.processes import MARK, die_with, end, end_marked, running, start
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Hear, RunFailed, claim, server_folder_of, set_aside
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.site_config import SiteConfig

POLL = 0.2  # seconds
ENDING = 60.0  # seconds from the run's last event until FLARE must have ended; a worker saves its adapter meanwhile


class Simulation:
    """One run under `folder`: `flare/` is FLARE's workspace, `flare.log` what it prints."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        sites: dict[str, SiteConfig],
        start_from: Path | None = None,
        track: str | None = None,
    ):
        """A run that is resumed must have been under the same `folder`. `track` is one of `TRACKERS`."""
        check_folder(folder)
        self.folder, self.spec = folder, spec
        self.log_path = folder / "flare.log"
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen | None = None
        self._claim = claim(folder)
        set_aside(folder / "flare")  # FLARE's simulator empties it when it starts
        self.flare = simulated_workspace(folder / "flare", spec.job.name, sites, folder / "server")
        self.server_folder = server_folder_of(folder, "sim", spec.job.name)
        job = {"sites": list(sites), "spec": spec.model_dump(mode="json"), "track": track}
        job["start_from"] = start_from and str(start_from)
        (folder / "job.json").write_text(json.dumps(job))

    def run(self, hear: Hear) -> None:
        """As `Run`: `hear` gets the server's event log as it grows. What FLARE left running is for `close` to end."""
        command = [sys.executable, "-m", "fedrlvr.flare.lead.simulator", str(self.folder)]
        self._process = start(command, self.log_path, mark=self._mark, stdin=subprocess.PIPE)
        log, reason, alive, latest_end = GrowingLog(self.server_folder / EVENTS_FILE), None, True, math.inf
        while alive and time.monotonic() < latest_end:
            alive = running(self._process)  # before the log is read, so that nothing of it is missed
            for event in log.news():
                if event["event"] in ("end", "stopped"):
                    reason, latest_end = event.get("reason"), time.monotonic() + ENDING
                hear(event)
            hear(None)
            time.sleep(POLL)
        code = end(self._process)
        if alive:
            with open(self.log_path, "a", encoding="utf-8") as file:
                file.write(f"ended by force: FLARE still waited for a site {ENDING:g} s after the run was over\n")
        if reason or (code and not alive):
            raise RunFailed(reason or f"FLARE's simulator ended with code {code}; see {self.log_path}")

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None:
            end(self._process)
            end_marked(self._mark)
        self._claim.lock.release()


def main(folder: Path) -> None:
    """Run in FLARE's simulator what the `Simulation` under `folder` prepared."""
    die_with(lifeline=0, last=lambda: end_marked(os.environ[MARK]))
    from nvflare.recipe import SimEnv  # FLARE's recipes read the program's own arguments when imported

    from fedrlvr.flare.recipe import PubSwapRecipe

    inputs = json.loads((folder / "job.json").read_text())
    sites, spec = inputs["sites"], RunSpec.model_validate(inputs["spec"])
    print(*Deadlines.of(spec.job).describe(), sep="\n", flush=True)
    where = SimEnv(clients=sites, num_threads=len(sites), workspace_root=str(folder / "flare"))
    recipe = PubSwapRecipe(spec, inputs["start_from"])
    if inputs["track"]:
        recipe.track(inputs["track"], folder)
    recipe.execute(where)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
