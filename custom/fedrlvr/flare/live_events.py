"""A running job's events for the lead: the server sends them in answer to FLARE's app command, the lead checks them."""

import json
from itertools import islice
from pathlib import Path

from fedrlvr.protocol.refused import Refused

TOPIC = "fedrlvr.events"
MAX_EVENTS = 500  # per answer
MAX_BYTES = 1 << 20  # per answer, except that one longer line is sent alone


def serve_events(engine, path: Path) -> None:
    """Answer `{"from": n}` with the event log's events from line n on, as many as fit, and the next line's number."""

    def answer(topic: str, question: object, fl_ctx) -> dict:
        first = question.get("from") if isinstance(question, dict) else None
        if type(first) is not int or first < 0:
            return {"error": f"{topic}: expected {{'from': the number of a line}}"}
        events = read_events(path, first)
        return {"events": events, "next": first + len(events)}

    engine.register_app_command(TOPIC, answer)


def read_events(path: Path, first: int = 0, limited: bool = True) -> list[dict]:
    """The event log's complete lines from number `first` on; with `limited` only as many as one answer may hold. Raises
    Refused for a line that is no event."""
    events, size = [], 0
    if not path.exists():
        return events
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(islice(file, first, None), start=first + 1):
            size += len(line)
            full = limited and (len(events) == MAX_EVENTS or (events and size > MAX_BYTES))
            if full or not line.endswith("\n"):
                break
            events.append(_event(line, f"{path.name}, line {number}"))
    return events


class GrowingLog:
    """An event log that somebody else writes."""

    def __init__(self, path: Path):
        self.path, self._size, self._read = path, 0, 0

    def news(self) -> list[dict]:
        """The complete lines that were not read yet. Raises Refused, with the whole path, for a line that is no
        event."""
        before, self._size = self._size, self.path.stat().st_size if self.path.exists() else 0
        try:
            events = read_events(self.path, self._read, limited=False) if self._size > before else []
        except Refused as error:
            raise Refused(f"{self.path.parent}/{error}") from None
        self._read += len(events)
        return events


def check_answer(answer: object, first: int) -> list[dict]:
    """The events of a server's answer to `{"from": first}`. Raises Refused."""
    if not isinstance(answer, dict):
        raise Refused(f"the server's answer on {TOPIC} is {type(answer).__name__}; expected a mapping")
    if "error" in answer:
        raise Refused(f"the server refuses to send its event log: {str(answer['error'])[:200]}")
    events = answer.get("events")
    if not isinstance(events, list) or len(events) > MAX_EVENTS or answer.get("next") != first + len(events):
        raise Refused(f"the server's answer on {TOPIC} is not events from line {first} on and the next line's number")
    if not all(map(_is_event, events)):
        raise Refused(f"the server's answer on {TOPIC} holds something that is not an event")
    return events


def _event(line: str, where: str) -> dict:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused(f"{where}: not valid JSON") from None
    if not _is_event(event):
        raise Refused(f"{where}: not an event")
    return event


def _is_event(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("event"), str)
