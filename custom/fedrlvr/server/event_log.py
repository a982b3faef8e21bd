"""The run's events on the server: one JSON object a line, flushed as it happens, so a lost run keeps its record."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

EVENTS_FILE = "metrics.jsonl"
PAYLOADS = {  # event -> its numbers of bytes by site, and what they are
    "average": {"bytes_up": "adapter/bytes_up"},
    "adapter_down": {"bytes": "adapter/bytes_down"},
    "exchange": {"bytes_up": "exchange/bytes_up", "bytes_down": "exchange/bytes_down"},
}


def payloads(event: Mapping) -> Iterator[tuple[str, str, int]]:
    """What an event counts of bytes: what, at which site, and how many."""
    for field, what in PAYLOADS.get(event["event"], {}).items():
        yield from ((what, site, count) for site, count in event[field].items())


class EventLog:
    """Appends to `metrics.jsonl`. Every line has `event` and `time`: seconds since the log was opened, plus those of
    the log that it continues, if there is one. `hear` gets every event, those of the earlier log first."""

    def __init__(self, folder: Path, continued: Path | None = None, hear: Callable[[dict], None] = lambda event: None):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._hear, before = folder / EVENTS_FILE, hear, 0.0
        if continued is not None:
            shutil.copyfile(continued, self.path)
            earlier = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            before = earlier[-1]["time"]
            for event in earlier:
                hear(event)
        self._began = time.monotonic() - before
        self._lock = threading.Lock()  # late answers are written by FLARE's own threads
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run

    def write(self, event: str, **values) -> None:
        line = {"event": event, "time": round(time.monotonic() - self._began, 3), **values}
        with self._lock:
            if self._file.closed:  # a late answer can come when all is over; nobody reads on
                return
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._hear(line)

    def close(self) -> None:
        with self._lock:
            self._file.close()
