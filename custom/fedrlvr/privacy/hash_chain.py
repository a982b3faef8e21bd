"""An append-only file of JSON lines that notices when it is edited, cut short or exchanged for another.

Every line holds the SHA-256 of the line before. `NAME.head` beside it holds the number of lines and the last one's
hash, so that lines missing at the end are noticed too. A line is on disk before the head says so, and whoever appends
goes on only when the head is on disk as well: after a crash the file is at most one line, whole or torn, ahead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BrokenChain(ValueError):
    """The file is not what was written; the message says where."""


class HashChain:
    """Use `lines` and `append` within `locked`."""

    def __init__(self, path: Path):
        self.path, self.head = path, path.with_name(path.name + ".head")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes of this machine. Raises OSError where the folder cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def lines(self) -> list[dict]:
        """Every line, verified. Nothing is changed.

        Raises:
            BrokenChain: naming the line.
        """
        count, last = self._head()
        if not self.path.exists():
            if count:
                raise BrokenChain(f"it is gone, and {self.head.name} says that it had {count} lines")
            return []
        *whole, torn = self.path.read_bytes().split(b"\n")
        if torn and len(whole) != count:
            raise BrokenChain(f"line {len(whole) + 1} is cut short")
        lines, before = [], ""
        for number, raw in enumerate(whole, start=1):
            lines.append(_parsed(raw, number, before))
            before = _hash(raw)
            if number == count and before != last:
                raise BrokenChain(f"line {number} is not the one that {self.head.name} knows")
        if not count <= len(whole) <= count + 1:
            raise BrokenChain(f"it has {len(whole)} lines, and {self.head.name} says {count}")
        return lines

    def append(self, values: dict) -> None:
        """Verify everything, put one line behind, and return when line and head are on disk.

        Raises:
            BrokenChain: as `lines`.
            OSError: it cannot be written.
        """
        lines = self.lines()
        before = self.last_hash()
        raw = json.dumps({"n": len(lines), **values, "before": before}, sort_keys=True).encode()
        with open(self.path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.truncate(self._whole_bytes())  # a torn line: whoever wrote it went no further
            file.write(raw + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._write_head(len(lines) + 1, _hash(raw))

    def last_hash(self) -> str:
        """Of the last whole line, "" where there is none; unverified."""
        whole = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        return _hash(whole[-1]) if whole else ""

    def hashes(self) -> set[str]:
        """Of all whole lines."""
        return {_hash(raw) for raw in self.path.read_bytes().split(b"\n")[:-1]} if self.path.exists() else set()

    def _whole_bytes(self) -> int:
        return self.path.read_bytes().rfind(b"\n") + 1

    def _head(self) -> tuple[int, str]:
        if not self.head.exists():
            if self.path.exists() and self.path.read_bytes().count(b"\n") > 1:
                raise BrokenChain(f"{self.head.name} is gone")
            return 0, ""
        try:
            head = json.loads(self.head.read_text())
            return int(head["lines"]), str(head["last"])
        except (ValueError, KeyError, TypeError):
            raise BrokenChain(f"{self.head.name} is damaged") from None

    def _write_head(self, count: int, last: str) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, prefix=self.head.name, delete=False) as file:
            file.write(json.dumps({"lines": count, "last": last}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.head)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parsed(raw: bytes, number: int, before: str) -> dict:
    try:
        line = json.loads(raw)
        sound = line["n"] == number - 1 and line["before"] == before
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise BrokenChain(f"line {number} does not follow from the lines before it")
    return line


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
