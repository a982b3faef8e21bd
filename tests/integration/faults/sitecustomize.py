"""On a worker's PYTHONPATH this makes it die, hang or run out of disk in the middle of its work, where a plan says so.

FEDRLVR_FAULTS is a JSON list of {"site", "task", "segment" or "round", "rank", "act", "after" or "answered"}: when the
task comes, so many seconds later, or when it has been answered. Every fault happens once, which a file in
FEDRLVR_FAULTS_DONE remembers. The worker's log tells which steps have been answered. The acts are real: signals, exits,
a limit that the kernel keeps.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def _freeze_site() -> None:
    """FLARE's process of the site too, as when its machine is suspended; nobody is woken by this."""
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


ACTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "crash": lambda: os._exit(17),
    "freeze site": _freeze_site,
}


def _watch() -> None:
    from fedrlvr.learning.ranks import Ranks
    from fedrlvr.worker import wire

    faults, done = json.loads(os.environ["FEDRLVR_FAULTS"]), Path(os.environ["FEDRLVR_FAULTS_DONE"])
    broadcast, send, site, later, asked = Ranks.broadcast, wire.send, [], [], []

    def received(self, item):
        item = broadcast(self, item)
        if isinstance(item, wire.Frame):
            body = json.loads(item.body or "{}")
            site[:] = [body["site"]] if item.kind == wire.SET_UP else site
            asked[:] = [_place(item.kind, body)]
            for number, fault in enumerate(faults):
                mark = done / str(number)
                if _due(fault, site, asked[0], self.rank) and not mark.exists():
                    mark.touch()
                    if fault.get("answered"):
                        later.append(fault)
                    else:
                        _act(fault)
        return item

    def sent(connection, frame):
        send(connection, frame)
        if asked and frame.kind == wire.ANSWER and "steps" in json.loads(frame.body):
            logging.getLogger("fedrlvr.worker").info("answered: %s", json.dumps(asked[0]))
        while later:
            _act(later.pop())

    Ranks.broadcast, wire.send = received, sent


def _place(task: str, request: dict) -> dict:
    """What a plan may name of a request, and whether a swap follows it."""
    segments = request.get("segments") or [request.get("segment") or {}]
    place = {"task": task, "round": request.get("envelope", {}).get("round"), "segment": segments[-1].get("index")}
    return place | {"exchange": request.get("exchange")}


def _due(fault: dict, site: list, place: dict, rank: int) -> bool:
    wanted = {name: fault[name] for name in ("task", "round", "segment") if name in fault}
    return site == [fault["site"]] and fault.get("rank", 0) == rank and wanted.items() <= place.items()


def _act(fault: dict) -> None:
    if fault["act"] == "disk":
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # bytes; not even a line of the log fits
    elif "after" in fault:
        threading.Timer(fault["after"], ACTS[fault["act"]]).start()
    else:
        ACTS[fault["act"]]()


if "fedrlvr.worker.worker" in " ".join(sys.orig_argv) and os.environ.get("FEDRLVR_FAULTS"):
    _watch()
