"""Folders that are whole or not there at all: written beside, sealed with every file's hash, synced, renamed.

A crash, a full disk or a file cut short half-way is noticed by the seal, and the folder is then as good as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEAL, UNFINISHED = "seal.json", ".tmp"


class BrokenSeal(ValueError):
    """The folder is not as it was when it was sealed; the message names the file."""


class FolderError(ValueError):
    """A folder that must not be written to."""


def begin(path: Path) -> Path:
    """An empty folder beside `path`, to be filled and given to `seal`; what an earlier attempt left there is gone."""
    unfinished = path.with_name(path.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def seal(path: Path) -> None:
    """Make what lies in the folder that `begin(path)` gave the folder `path`; an older one there is replaced.

    Raises:
        OSError: it cannot be written. An older `path` is then as it was.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    files = sorted(file for file in unfinished.iterdir() if file.name != SEAL)
    (unfinished / SEAL).write_text(json.dumps({file.name: _digest(file) for file in files}, indent=1))
    publish(path)


def publish(path: Path) -> None:
    """The same without a seal, for a folder whose files are of another's making. Raises OSError, as `seal`."""
    unfinished = path.with_name(path.name + UNFINISHED)
    for file in (*unfinished.iterdir(), unfinished):
        _sync(file)
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)
    _sync(path.parent)


def sweep(parent: Path) -> None:
    """Remove what was begun in `parent` and never sealed: on a full disk it would keep later attempts from fitting."""
    for path in parent.glob(f"*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def check_seal(path: Path) -> None:
    """Raises BrokenSeal where a file is missing, cut short, altered or new, or there was never a seal."""
    try:
        sealed = json.loads((path / SEAL).read_text())
        for name in {file.name for file in path.iterdir()} - {*sealed, SEAL}:
            raise BrokenSeal(f"{path / name} was not there when the folder was sealed")
        for name, digest in sealed.items():
            if _digest(path / name) != digest:
                raise BrokenSeal(f"{path / name} is not as it was written")
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, BrokenSeal):
            raise
        raise BrokenSeal(f"{path} is not whole ({error})") from None


def sealed_folders(parent: Path, pattern: str = "*") -> list[Path]:
    """The finished folders in `parent`, by name; whether each is whole, `check_seal` says."""
    return sorted(path for path in parent.glob(pattern) if path.is_dir() and path.suffix != UNFINISHED)


def check_free(folder: Path) -> None:
    """Raises FolderError if something stands there; an empty directory is nothing."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"{folder}: holds something already; expected a new or empty directory; choose another --out")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A directory beside `folder` that becomes `folder` at the end, and vanishes if the end is not reached.

    Raises:
        FolderError: something stands there already.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        check_free(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _digest(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
