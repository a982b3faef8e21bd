"""An append-only file of JSON lines that notices when it is edited, cut short or exchanged for an older copy.

Every line holds its place `n`, as `before` the SHA-256 of the line before, and a random `salt`, so that who is told
its hash learns nothing of it. `NAME.head` beside the file holds the number of lines and the hash of the last one, so
missing lines at the end are noticed too. The line is written first and the head second, and `append` returns when both
are on disk. After a crash the file is therefore at most one line, whole or torn, ahead of its head. The next `append`
repairs that.

Who puts back an older copy of file and head is not noticed here, but by those who know the hash of a newer line.

Lines that an earlier version wrote without a chain are taken as they are, and the chain begins after them.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import ClassVar

from fedrlvr.json_text import JsonError, from_json
from fedrlvr.protocol.refused import Refused
from fedrlvr.sealed_folder import sync

BLOCK = 1 << 20  # bytes

_for_the_owner = partial(os.open, mode=0o600)


class BrokenLog(Refused):
    """The log cannot be trusted, read or written. Until its owner has mended it, what it accounts for stays here."""


@dataclass(frozen=True)
class Place:
    """Up to where a log was read: where its last line begins and ends, that line's number and hash, and whether the
    chain had begun."""

    start: int = 0
    end: int = 0
    number: int = 0
    last: str = ""
    chained: bool = False


BEGINNING = Place()


class AppendLog:
    """Only its owner may read the files. Reading takes no lock and writes nothing. Every method raises BrokenLog."""

    stops: ClassVar[str] = "nothing leaves"  # while the log is broken

    def __init__(self, path: Path):
        self.path = Path(os.path.realpath(path))  # two links to one log have one head
        self.head = self.path.with_name(self.path.name + ".head")

    def broken(self, what: str) -> BrokenLog:
        name = self.path.name  # not the folder: the message may go to the server
        remedy = f"restore it, or let its owner begin a new one by moving {name}* away"
        return BrokenLog(f"{name}: {what}; {remedy}; until then {self.stops}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off every other writer on this machine. A plain flock of the log itself: another file could be deleted
        meanwhile, and filelock polls, and does not survive a fork."""
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", opener=_for_the_owner) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def lines(self) -> Iterator[dict]:
        """Every whole line, oldest first. All are verified once the last has been read."""
        return (line for _, line in self.since(BEGINNING))

    def since(self, place: Place) -> Iterator[tuple[Place, dict]]:
        """Every whole line behind `place`, each with the place up to where the log is read then. All are verified once
        the last has been read."""
        count, last = self._head()
        with self._reading() as file:
            if place.number == count and place.last != last:
                raise self.broken(f"line {count} is not as it was written")
            file.seek(place.end)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # torn
                line, number = _parsed(raw), place.number + 1
                chained = place.chained or "before" in line
                sound = line and (not chained or (line.get("n"), line.get("before")) == (number - 1, place.last))
                place = Place(place.end, place.end + len(raw), number, sha256(raw[:-1]).hexdigest(), chained)
                if not sound or (number == count and place.last != last):
                    raise self.broken(f"line {number} is not as it was written")
                yield place, line
        # The head is read again, since others may have appended in the meantime.
        most = self._head()[0] + 1 if place.chained or self.head.exists() else place.number
        if not count <= place.number <= most:
            raise self.broken(f"it has {place.number} lines, and {self.head.name} knows {count}")

    def holds(self, place: Place) -> bool:
        """Whether the last line up to `place` is still the one that was read there."""
        with self._reading() as file:
            file.seek(place.start)
            raw = file.read(place.end - place.start)
        return place == BEGINNING or sha256(raw[:-1]).hexdigest() == place.last

    def knows(self, line_hash: str) -> bool:
        """Whether there is a line of this hash ("": none is asked for); unverified. It is looked for from the end, so a
        newer line costs less."""
        if line_hash in ("", self.last_hash()):
            return True
        named, later = f'"before": "{line_hash}"'.encode(), b""
        with self._reading() as file:
            start = file.seek(0, os.SEEK_END)
            while start and named not in later:
                start, end = max(0, start - BLOCK), start
                file.seek(start)
                later = file.read(end - start) + later[: len(named)]
        return named in later

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
            raw = json.dumps({"n": count, **values, "salt": secrets.token_hex(16), "before": last}).encode()
            end = file.seek(0, os.SEEK_END)
            try:
                _write(file, raw + b"\n")
                self._write_head(count + 1, sha256(raw).hexdigest())
            except OSError:
                with suppress(OSError, BrokenLog):  # the next append repairs what is left
                    if self._head() == (count, last):  # a rename over the network may be done and fail
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
            head = from_json(self.head.read_bytes())
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
        line = from_json(raw)
    except JsonError:
        return {}
    return line if isinstance(line, dict) else {}
