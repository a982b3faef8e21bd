"""The run's diary on the server: one JSON object a line, flushed as it happens, so that a lost run keeps what it
did."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

EVENTS_FILE = "metrics.jsonl"


class EventLog:
    """Appends to `metrics.jsonl`. Every line has `event` and `time` (seconds since the event log was opened, on top of
    those of the event log that it continues, if there is one)."""

    def __init__(self, folder: Path, continued: Path | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, before = folder / EVENTS_FILE, 0.0
        if continued is not None:
            shutil.copyfile(continued, self.path)
            before = json.loads(self.path.read_text(encoding="utf-8").splitlines()[-1])["time"]
        self._began = time.monotonic() - before
        self._lock = threading.Lock()  # late answers are written down by FLARE's own threads
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run

    def write(self, event: str, **values) -> None:
        line = {"event": event, "time": round(time.monotonic() - self._began, 3), **values}
        with self._lock:
            if self._file.closed:  # a late answer can come when all is over; nobody reads on
                return
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()
