"""What every environment offers of a run: its event log as it is written, what the server keeps of it, its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from fedrlvr.config import JobConfig


class RunFailed(RuntimeError):
    """The job did not end well; the message says why, as far as that is known."""


@dataclass(frozen=True)
class RecipeInputs:
    """The arguments of `PubSwapRecipe`, which says what they are, for whoever must not import FLARE's recipes yet: they
    look at the program's own arguments."""

    job: JobConfig
    public_ids: list[str]
    manifest: str
    run: str | None = None
    resume: bool = False
    base_model: str | None = None


class Run(Protocol):
    """A simulation or a submission. `server_folder` holds `metrics.jsonl` and `rounds/` once the run is closed."""

    log_path: Path
    server_folder: Path

    def events(self) -> Iterator[dict | None]:
        """Start the run and yield the server's event log as it grows; None when nothing is new. Raises RunFailed."""

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
