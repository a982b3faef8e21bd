"""What the model writes at a site, for the site's own people. Nothing reads this file, and no part of it is sent."""

import json
import logging
import os
from collections.abc import Sequence
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
        try:
            for group in groups:
                records = [self.place | completion_record(group.problem, made) for made in group.completions]
                self._append(b"".join(json.dumps(record).encode() + b"\n" for record in records))
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
