"""An append-only file of JSON lines that notices when it is edited, cut short or exchanged for an older copy.

Every line holds its place `n` and, as `before`, the SHA-256 of the line before. `NAME.head` beside the file holds the
number of lines and the hash of the last one, so missing lines at the end are noticed too. The line is written first and
the head second, and `append` returns when both are on disk. After a crash the file is therefore at most one line, whole
or torn, ahead of its head. The next `append` repairs that.

Lines that an earlier version wrote without a chain are taken as they are, and the chain begins after them.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import ClassVar

from fedrlvr.protocol.refused import Refused
from fedrlvr.sealed_folder import sync

_for_the_owner = partial(os.open, mode=0o600)


class BrokenLog(Refused):
    """The log cannot be trusted, read or written. Until its owner has mended it, what it accounts for stays here."""


class AppendLog:
    """Only its owner may read the files. Reading takes no lock and writes nothing. Every method raises BrokenLog."""

    stops: ClassVar[str] = "nothing leaves"  # while the log is broken

    def __init__(self, path: Path):
        self.path, self.head = path, path.with_name(path.name + ".head")

    def broken(self, what: str) -> BrokenLog:
        name = self.path.name  # not the folder: the message may go to the server
        remedy = f"restore it, or let its owner begin a new one by moving {name}* away"
        return BrokenLog(f"{name}: {what}; {remedy}; until then {self.stops}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off every other writer on this machine. A plain flock: filelock polls, and does not survive a fork."""
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_name(self.path.name + ".lock"), "w", opener=_for_the_owner) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def lines(self) -> Iterator[dict]:
        """Every whole line, oldest first. All are verified once the last has been read."""
        count, last = self._head()
        number, before, chained = 0, "", False
        with self._reading() as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # torn
                line, number = _parsed(raw), number + 1
                chained = chained or "before" in line
                sound = line and (not chained or (line.get("n"), line.get("before")) == (number - 1, before))
                before = sha256(raw[:-1]).hexdigest()
                if not sound or (number == count and before != last):
                    raise self.broken(f"line {number} is not as it was written")
                yield line
        # The head is read again, since others may have appended in the meantime.
        most = self._head()[0] + 1 if chained or self.head.exists() else number
        if not count <= number <= most:
            raise self.broken(f"it has {number} lines, and {self.head.name} knows {count}")

    def last_line(self) -> dict:
        """Unverified; {} where there is none."""
        with self._reading() as file:
            return _parsed(b"".join(_tail(file)[:-1]))

    def last_hash(self) -> str:
        """Of the last line that the head knows, "" for none; unverified."""
        return self._head()[1]

    def append(self, values: dict) -> None:
        """Within `locked`: add one line, and return when it is on disk. A line that cannot be added is cut off again.
        Only the last line is compared with the head, so the cost does not grow with the file."""
        with open(self.path, "a+b", buffering=0, opener=_for_the_owner) as file:
            count, last = self._repaired(file)
            raw = json.dumps({"n": count, **values, "before": last}).encode()
            end = file.seek(0, os.SEEK_END)
            try:
                _write(file, raw + b"\n")
                self._write_head(count + 1, sha256(raw).hexdigest())
            except OSError:
                with suppress(OSError):  # the next append repairs what is left
                    file.truncate(end)
                raise
            sync(self.path.parent)

    def _repaired(self, file: FileIO) -> tuple[int, str]:
        """Cut off a torn line, bring the head up to date with a whole one, and return what the head says."""
        count, last = self._head()
        *whole, torn = _tail(file)
        newest = sha256(whole[0]).hexdigest() if whole else ""
        if newest != last:
            line = _parsed(b"".join(whole))
            if (line.get("n"), line.get("before")) == (count, last):
                count += 1
            elif whole and "before" not in line and not self.head.exists():
                count = sum(1 for _ in self.lines())
            else:
                raise self.broken(f"its last line is not the one that {self.head.name} knows")
            self._write_head(count, newest)
            sync(self.path.parent)  # else a power cut could leave the file two lines ahead
        if torn and not whole and torn[:7] != b'{"n": 0'[: len(torn)]:
            raise self.broken("it is not a log")
        if torn:
            file.truncate(file.seek(0, os.SEEK_END) - len(torn))
        return count, newest

    def _head(self) -> tuple[int, str]:
        try:
            head = json.loads(self.head.read_bytes())
            return int(head["lines"]), str(head["last"])
        except (FileNotFoundError, NotADirectoryError):
            return 0, ""
        except (OSError, ValueError, KeyError, TypeError):
            raise self.broken(f"{self.head.name} is damaged") from None

    def _write_head(self, count: int, last: str) -> None:
        """Where this raises OSError, the head is as it was."""
        unfinished = self.head.with_name(self.head.name + ".tmp")
        with open(unfinished, "wb", buffering=0, opener=_for_the_owner) as file:
            _write(file, json.dumps({"lines": count, "last": last}).encode())
        os.replace(unfinished, self.head)

    @contextmanager
    def _reading(self) -> Iterator[FileIO]:
        with self._guarded(), open(self.path if self.path.exists() else os.devnull, "rb") as file:
            yield file

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"cannot be read or written ({error.strerror})"
            raise BrokenLog(f"{self.path.name}: {why}, so {self.stops}") from None


def _tail(file: FileIO) -> list[bytes]:
    """The last whole line, if there is one, and what stands behind its end: a torn line, or nothing."""
    start, lines, block = file.seek(0, os.SEEK_END), [b""], 8192
    while start and len(lines) < 3:
        start = file.seek(max(0, start - block))
        lines, block = file.read().split(b"\n"), 8 * block
    return lines[-2:]


def _write(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def _parsed(raw: bytes) -> dict:
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
