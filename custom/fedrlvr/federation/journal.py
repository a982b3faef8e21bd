"""The run's diary on the server: one JSON object a line, flushed as it happens, so that a lost run keeps what it
did."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Journal:
    """Appends to `metrics.jsonl`. Every line has `event` and `time` (seconds since the journal was opened)."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._began = time.monotonic()
        self._file = open(folder / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run

    def write(self, event: str, **values) -> None:
        line = {"event": event, "time": round(time.monotonic() - self._began, 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
