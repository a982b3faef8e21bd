"""Folders that are complete or absent: written under another name, synced to disk, then renamed.

A sealed folder also holds the hash of each of its files. The seal shows what a crash, a full disk or a truncated file
did to a folder; it then counts as absent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrlvr.json_text import from_json

SEAL, UNFINISHED = "seal.json", ".tmp"


class BrokenSeal(ValueError):
    """The folder differs from what was sealed; the message names the file."""


def begin(path: Path) -> Path:
    """Make an empty folder beside `path`, to be filled before `seal(path)`. What an earlier attempt left is removed."""
    unfinished = path.with_name(path.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def seal(path: Path) -> None:
    """Write the hashes into the folder that `begin(path)` made, and rename it to `path`; an older `path` is replaced.
    Raises OSError where it cannot be written; an older `path` is then unchanged."""
    unfinished = path.with_name(path.name + UNFINISHED)
    files = sorted(file for file in unfinished.iterdir() if file.name != SEAL)
    (unfinished / SEAL).write_text(json.dumps({file.name: _digest(file) for file in files}, indent=1))
    publish(path)


def publish(path: Path) -> None:
    """As `seal`, but without the file of hashes, for a folder that other programs read. Raises OSError."""
    unfinished = path.with_name(path.name + UNFINISHED)
    for file in (*unfinished.iterdir(), unfinished):
        sync(file)
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)
    sync(path.parent)


def sweep(parent: Path) -> None:
    """Remove unfinished folders in `parent`: on a full disk they would leave no room for later attempts."""
    for path in parent.glob(f"*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def check_seal(path: Path) -> None:
    """Raises BrokenSeal where a file is missing, truncated, altered or new, or there is no seal."""
    try:
        sealed = from_json((path / SEAL).read_bytes())
        for name in {file.name for file in path.iterdir()} - {*sealed, SEAL}:
            raise BrokenSeal(f"{path / name} was not there when the folder was sealed")
        for name, digest in sealed.items():
            if _digest(path / name) != digest:
                raise BrokenSeal(f"{path / name} has changed since the folder was sealed")
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, BrokenSeal):
            raise
        raise BrokenSeal(f"{path} is incomplete ({error})") from None


def sealed_folders(parent: Path) -> list[Path]:
    """The finished folders in `parent`, sorted by name; their seals are not checked."""
    return sorted(path for path in parent.glob("*") if path.is_dir() and path.suffix != UNFINISHED)


def check_free(folder: Path) -> None:
    """Raises ValueError if `folder` exists already, unless it is an empty directory."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already; expected a new or empty directory; choose another --out")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A directory beside `folder` that is renamed to `folder` at the end of the block, or removed if the block raises.
    Raises ValueError as `check_free`, at the beginning or at the end."""
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


def sync(path: Path) -> None:
    """Return when the file, or the names in the folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
