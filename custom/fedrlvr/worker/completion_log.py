"""What the model writes at a site, and what others' answers replaced of it, for the site's own people. No part of it is
sent. Only the report of a run reads it, where the lead has the sites' folders."""

import json
import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from fedrlvr.learning.evaluation import completion_record
from fedrlvr.types import Group

LOGGER = logging.getLogger(__name__)


class CompletionLog:
    """JSON Lines in `path` and, before them, in the same name with `.1`: both together at most `limit` bytes. Only
    their owner can read them."""

    def __init__(self, path: Path, limit: int):
        self.path, self.limit = path, limit
        self.place: dict = {}  # what every line begins with, such as the round

    def write(self, groups: Sequence[Group]) -> None:
        """Append every completion. Where that fails it is said in the log and ends nothing: no step depends on it."""
        self._write([completion_record(group.problem, made) for made in group.completions] for group in groups)

    def write_swaps(self, segment: int, before: Sequence[Group], after: Sequence[Group]) -> None:
        """Append every swap: the right answer, the site that it is of (`origin`), and what stood in its place."""
        self._write(
            [
                completion_record(old.problem, made)
                | {"segment": segment, "origin": made.origin, "instead_of": completion_record(old.problem, own)}
                for own, made in zip(old.completions, new.completions, strict=True)
                if made.origin
            ]
            for old, new in zip(before, after, strict=True)
        )

    def _write(self, of_groups: Iterable[list[dict]]) -> None:
        try:
            for records in of_groups:
                if records:
                    self._append(b"".join(json.dumps(self.place | record).encode() + b"\n" for record in records))
        except OSError as error:
            LOGGER.warning("%s: completions are not logged: %s", self.path, error)

    def _append(self, lines: bytes) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size + len(lines) > self.limit // 2:
            if size:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            if len(lines) > self.limit // 2:
                return
        with open(self.path, "ab", opener=partial(os.open, mode=0o600)) as file:
            file.write(lines)
