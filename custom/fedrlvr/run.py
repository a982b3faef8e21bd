"""A run: its name, what must stay the same when another job goes on with it, its folder, how it is followed."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from fedrlvr.config import JobConfig

_RUN = re.compile(r"[0-9a-f]{16}")
KEPT_RUNS = 3
# What a run may be resumed with another value of: how long it goes on, with whom, how it is measured.
MAY_CHANGE = {"rounds", "min_sites", "step_deadline", "max_update_norm"}


def new_run() -> str:
    """A name that no other run has; it becomes a folder's name at every participant."""
    return secrets.token_hex(8)


def check_run(run: object) -> str:
    """Raises ValueError where `run` is no run's name."""
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise ValueError(f"a run's name is 16 hexadecimal digits, not {str(run)[:80]!r}")
    return run


def run_identity(job: JobConfig, public_sha256: str, **more) -> str:
    """SHA-256 of everything that has to be the same before and after a run is resumed."""
    settings = job.model_dump(mode="json", exclude={"evaluation": True, "federation": MAY_CHANGE})
    return hashlib.sha256(json.dumps([settings, public_sha256, more], sort_keys=True).encode()).hexdigest()


def forget_old_runs(folder: Path) -> None:
    """Of the runs that have a folder each in `folder`, only the last to be written to stay."""
    runs = sorted((path for path in folder.iterdir() if _RUN.fullmatch(path.name)), key=lambda p: p.stat().st_mtime)
    for path in runs[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)


class RunFailed(RuntimeError):
    """The job did not end well; the message says why, as far as that is known."""


Hear = Callable[[dict | None], None]  # takes the run's next event, or None when nothing is new


class Run(Protocol):
    """A run in one place or another. `server_folder` holds `metrics.jsonl` and `rounds/` once it is closed."""

    log_path: Path
    server_folder: Path

    def run(self, hear: Hear) -> None:
        """Start it and tell its events, in order, until it is over. Raises RunFailed."""

    def close(self) -> None:
        """End whatever of the run is still there, and fetch what it left."""


def set_aside(folder: Path) -> None:
    """Rename an earlier attempt's folder, if there is one, to the next free `-N`."""
    number = 1
    while folder.with_name(f"{folder.name}-{number}").exists():
        number += 1
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-{number}"))


def claim(folder: Path) -> FileLock:
    """Be the only one at the run in this folder, until what is returned is released or this process ends.

    Raises ValueError where somebody is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{folder}: another command is at this run; wait for its end, or end it") from None
    return lock
