"""A run: its name, what must stay the same when another job resumes it, its folder, how it is followed."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from filelock import AcquireReturnProxy, FileLock, Timeout

from fedrlvr.config import JobConfig

Environment = Literal["local", "sim", "poc", "prod"]  # where a run takes place
SIMULATED_SERVER = Path("server", "simulate_job", "fedrlvr")  # in a simulated job's workspace
RUN = r"^[0-9a-f]{16}$"  # a run's name, which every participant uses as the name of a folder
KEPT_RUNS = 3
# Settings of `federation` that may change when a run is resumed.
MAY_CHANGE = {"rounds", "min_sites", "step_deadline", "max_update_norm"}


def run_identity(job: JobConfig, public_sha256: str, **more) -> str:
    """SHA-256 of everything that must be the same before and after a run is resumed."""
    settings = job.model_dump(mode="json", exclude={"evaluation": True, "federation": MAY_CHANGE})
    return hashlib.sha256(json.dumps([settings, public_sha256, more], sort_keys=True).encode()).hexdigest()


def forget_old_runs(folder: Path) -> None:
    """Delete the runs' folders in `folder`, except those that were changed last."""
    runs = sorted((path for path in folder.iterdir() if re.fullmatch(RUN, path.name)), key=lambda p: p.stat().st_mtime)
    for path in runs[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)


class RunFailed(RuntimeError):
    """The run did not end well. The message says why, if that is known."""


Hear = Callable[[dict | None], None]  # takes the run's next event, or None when nothing is new


class Run(Protocol):
    """A run in any environment. Once it is closed, `server_folder` holds `metrics.jsonl` and `rounds/`."""

    log_path: Path
    server_folder: Path

    def run(self, hear: Hear) -> None:
        """Start it and call `hear` with its events, in order, until it is over. Raises RunFailed, and Refused where its
        event log cannot be read."""

    def close(self) -> None:
        """End what still runs, and fetch the results."""


def server_folder_of(folder: Path, environment: Environment, job: str) -> Path:
    """Where the server of the run in `folder` keeps `metrics.jsonl` and `rounds/` on this machine. What ran at a FLARE
    server is there once it was brought home."""
    places = {"local": Path("local", "server"), "sim": Path("flare", job) / SIMULATED_SERVER}
    return folder / places.get(environment, Path("flare", "server"))


def log_to(path: Path, name: str, level: int = logging.WARNING) -> Callable[[], None]:
    """Append to this file what the logger `name` and those below it say from `level` on, and show it nowhere else.
    Returns a function that ends this."""
    handler, logger = logging.FileHandler(path, encoding="utf-8"), logging.getLogger(name)
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()

    return end


def set_aside(folder: Path) -> None:
    """If the folder of an earlier attempt exists, append the first free `-N` to its name."""
    number = 1
    while folder.with_name(f"{folder.name}-{number}").exists():
        number += 1
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-{number}"))


def claim(folder: Path, name: str = "lock") -> AcquireReturnProxy:
    """Lock a folder, by a file of this name in it, until the end of the returned context, or of this process. Raises
    ValueError if it is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / name, thread_local=False).acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{folder}: another command uses this folder; wait for its end, or end it") from None
