"""The site's own record of what left and what did not: JSON Lines, on disk before anything is sent, never a text."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fedrlvr.protocol.refused import Refused

RELEASED, REFUSED = "released", "refused"
MAX_REASON = 1000  # characters


class EgressLog:
    """Appends to `path`, which only its owner may read. One line is one message to the server.

    | field | |
    | --- | --- |
    | `time`, `site`, `job`, `model`, `task`, `round`, `segment` | when, whose, and where in the job |
    | `kind` | adapter, responses, metrics, error or unknown |
    | `decision`, `reason` | released or refused; why |
    | `count`, `bytes`, `sha256` | things released (tensors, answers, records), and exactly the bytes released |
    | `rules` | how many things each rule took out, or what it measured |
    | `ledger` | hash of the ledger's last line at that time, where there is a ledger |
    """

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def written(self, **place) -> Iterator[dict]:
        """Run the block that decides over one message, and have its outcome on disk before the caller goes on. The
        block puts `count`, `rules` and `fingerprint` into the dictionary it is given.

        Raises:
            Refused: the log cannot be written, so nothing may leave.
        """
        entry: dict = {}
        try:
            yield entry
        except Exception as error:
            # Whatever it is, it does not leave. A reason of our own making quotes nothing; another's might.
            self.refused(str(error) if isinstance(error, Refused) else type(error).__name__, **place)
            raise
        self._append(place | {"decision": RELEASED, "reason": ""} | entry)

    def refused(self, reason: str, **place) -> None:
        """Write down that something did not leave. Raises Refused as `written`."""
        self._append(place | {"decision": REFUSED, "reason": reason[:MAX_REASON]})

    def entries(self) -> Iterator[dict]:
        """Every whole line, oldest first; none where there is no file.

        Raises:
            Refused: a line that is not one of ours, by its number.
        """
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):  # cut short: what it was about did not leave
                    return
                try:
                    entry = json.loads(line)
                    known = {entry[name] for name in ("decision", "kind", "job")}
                except (ValueError, KeyError, TypeError):
                    known = set()
                if not known:
                    raise Refused(f"{self.path}, line {number}: not a line of an egress log")
                yield entry

    def answers_released(self, job: str) -> int:
        """How many answers have left in this job, before a restart included."""
        released = (e for e in self.entries() if e["kind"] == "responses" and e["decision"] == RELEASED)
        return sum(entry["count"] for entry in released if entry["job"] == job)

    def last_ledger(self) -> str:
        """Hash of the ledger's last line when something was last written here, "" where there was none."""
        return next((e["ledger"] for e in reversed(list(self.entries())) if e.get("ledger")), "")

    def _append(self, entry: Mapping) -> None:
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _drop_torn_line(descriptor)
                written = os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Refused(f"the egress log cannot be written ({error.strerror}), so nothing leaves") from None
        if written != len(line):
            raise Refused("the egress log could not be written whole, so nothing leaves; is the disk full?")


def _drop_torn_line(descriptor: int) -> None:
    """Cut off what a crash or a full disk left of a line: whoever wrote it went no further."""
    size = end = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end != size:
        os.ftruncate(descriptor, end)


def fingerprint(payload: bytes) -> dict:
    """Size and SHA-256 of exactly what leaves."""
    return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
