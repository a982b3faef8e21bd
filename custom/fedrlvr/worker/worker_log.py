"""What a worker prints: bounded on disk, however much that is, and read from its end."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

LIMIT = 10 * 2**20  # bytes
TAIL = 2**16  # bytes of the end that are read


class WorkerLog:
    """The file that a site's workers append to, one after the other."""

    def __init__(self, path: Path):
        self.path, self._began = path, 0

    def begin(self) -> None:
        """A new worker starts: what stands here already is an earlier one's."""
        self._began = self._size()

    def bound(self) -> None:
        """Once the file is longer than `LIMIT`, copy it to its name with `.1`, and empty it. Whoever appends to it goes
        on at its new end; what is printed between the two is lost."""
        if self._size() > LIMIT:
            with suppress(OSError):  # the disk is full: all the more reason to empty it
                shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            os.truncate(self.path, 0)
            self._began = 0

    def last_lines(self, count: int) -> list[str]:
        """Of what the newest worker has printed; fewer than `count` where they are long."""
        size = self._size()
        if size <= self._began:
            return []
        with open(self.path, "rb") as file:
            file.seek(max(self._began, size - TAIL))
            return file.read().decode(errors="replace").strip().splitlines()[-count:]

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
