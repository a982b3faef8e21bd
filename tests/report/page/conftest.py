"""A run of two sites and two rounds, with an event of every kind, small enough to count by hand."""

import json
from pathlib import Path

import pytest

SITES = ["north", "south"]
START = {
    "event": "start",
    "time": 0.0,
    "method": "pubswap",
    "sites": SITES,
    "rounds": 2,
    "segments": 4,
    "steps": 8,
    "seed": 7,
}
EXCHANGE = {
    "event": "exchange",
    "time": 3.0,
    "segment": 0,
    "offered": 4,
    "bytes_up": {"north": 30, "south": 10},
    "bytes_down": {"north": 10, "south": 30},
    "offers": {"north": {"p1": 2, "p2": 1}, "south": {"p2": 1}},
    "pools": {"north": {"south": 1}, "south": {"north": 3}},
}
FAILURE = {
    "event": "failure",
    "time": 5.0,
    "site": "south",
    "task": "train",
    "reason": "out of memory",
    "out_of": "segment",
}


def score(problems: int, share: float) -> dict:
    return {"problems": float(problems), "pass@1": share}


def evaluation(which: str, round_number: int, segment: int, scores: dict) -> dict:
    place = {"round": round_number, "segment": segment, "samples": 4}
    return {"event": "evaluation", "time": 1.0, "which": which, **place, "scores": scores}


def step(site: str, kind: str, segment: int, **metrics) -> dict:
    place = {"round": segment // 2, "site": site, "kind": kind, "segment": segment}
    told = {"reward": 0.5, "live_groups": 2.0, "groups": 4.0, "completions": 16.0, "optimizer_steps": 1.0}
    return {"event": "step", "time": 2.0, **place, **told, **metrics}


def own(north: float, south: float) -> dict:
    """Scores of the sites' own adapters on two problems of each label."""
    return {
        "north": {"test": {"A": score(2, north), "B": score(2, 0.0)}},
        "south": {"test": {"A": score(2, 0.0), "B": score(2, south)}},
    }


def together(share: float, held: float | None = None) -> dict:
    """Scores of one adapter, each label at one site; `held` on the north's four own problems."""
    heldout = {} if held is None else {"heldout": {"A": score(4, held)}}
    return {"north": {"test": {"A": score(6, share)}} | heldout, "south": {"test": {"B": score(2, share)}}}


def a_run() -> list[dict]:
    swapped = {"swap/completions": 3.0, "swap/all_wrong_groups": 2.0, "swap/rescued_groups": 1.0}
    return [
        START,
        {"event": "asked", "time": 0.5, "site": "north", "task": "validate", "round": -1, "segment": 0},
        {"event": "answered", "time": 0.75, "site": "north", "task": "validate"},
        evaluation("base", -1, 0, together(0.25, 0.0)),
        {"event": "adapter_down", "time": 1.0, "bytes": {"north": 1000}},
        {"event": "adapter_down", "time": 1.0, "bytes": {"south": 1000}},
        step("north", "private", 0, reward=0.25),
        step("south", "private", 0, reward=0.75, optimizer_steps=0.0),
        step("north", "public", 0, **swapped),
        step("south", "public", 0, **swapped),
        EXCHANGE,
        evaluation("local", 0, 1, own(0.5, 1.0)),
        {"event": "average", "time": 4.0, "round": 0, "sites": SITES, "bytes_up": {"north": 500, "south": 500}},
        {"event": "round", "time": 4.0, "round": 0, "seconds": 3.0},
        evaluation("global", 0, 1, together(0.75, 0.5)),
        FAILURE,
        {"event": "late", "time": 5.0, "site": "south", "task": "train"},
        {"event": "back", "time": 5.0, "round": 1, "segment": 3, "sites": ["south"]},
        {"event": "undecided", "time": 5.0, "round": 1, "told": []},
        step("north", "public", 2, **swapped),
        evaluation("local", 1, 3, own(1.0, 1.0)),
        {"event": "average", "time": 6.0, "round": 1, "sites": SITES, "bytes_up": {"north": 500, "south": 500}},
        {"event": "round", "time": 6.0, "round": 1, "seconds": 2.0},
        evaluation("global", 1, 3, together(0.5, 0.25)),
        {"event": "end", "time": 7.0, "asking_seconds": 6.0, "site_seconds": {"north": 4.0, "south": 2.0}},
    ]


def as_lines(events: list) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture
def events() -> list[dict]:
    return a_run()


@pytest.fixture
def folder(tmp_path):
    """folder(events) -> a run's folder that has nothing but this event log."""

    def make(events: list, name: str = "run") -> Path:
        made = tmp_path / name
        made.mkdir(exist_ok=True)
        (made / "metrics.jsonl").write_bytes(as_lines(events))
        return made

    return make
