"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderError(ValueError):
    """A folder that must not be written to."""


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
