"""What a server may tell a site to do: exactly that, in exactly those types."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from fedrlvr.algorithms.schedule import Segment
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import check_instructions

SEGMENT = asdict(Segment(index=3, private_steps=2, public_ids=("p1", "p2")))
ANSWER = {"problem_id": "p1", "text": "#4", "site": "site-2", "variant": 0}
GOOD = {
    "train": {
        "round": 1,
        "segments": [SEGMENT, SEGMENT],
        "exchange": True,
        "begin_round": False,
        "adapter_spec": "ab12",
    },
    "propose": {"round": 1, "segments": [SEGMENT]},
    "swap": {"round": 1, "segments": [SEGMENT], "responses": [ANSWER]},
    "submit": {"round": 1},
    "validate": {"round": -1, "samples": 4, "share": [0, 4], "name": "base 0"},
}


@pytest.mark.parametrize("task", GOOD)
def test_what_the_controller_says_is_understood(task):
    understood = check_instructions(task, GOOD[task])
    if task == "train":
        assert sum(segment["private_steps"] for segment in understood["segments"]) == 4
    elif task == "swap":
        assert understood["responses"] == [ANSWER]
    assert set(understood) == set(GOOD[task])
    assert check_instructions("validate", GOOD["validate"] | {"share": None})["share"] is None


# Each would otherwise run something else than was paid for, or somewhere else.
WRONG = {
    "steps that cancel out": ("train", {"segments": [SEGMENT | {"private_steps": n} for n in (10, -10)]}),
    "a step that is a truth": ("train", {"segments": [SEGMENT | {"private_steps": True}]}),
    "a round that is none": ("train", {"round": -2}),
    "a round that is a truth": ("submit", {"round": True}),
    "half a step": ("train", {"segments": [SEGMENT | {"private_steps": 0.5}]}),
    "steps as text": ("train", {"segments": [SEGMENT | {"private_steps": "2"}]}),
    "steps without end": ("train", {"segments": [SEGMENT | {"private_steps": 10**9}]}),
    "a field more in a segment": ("train", {"segments": [SEGMENT | {"local_steps": 7}]}),
    "no segment": ("train", {"segments": []}),
    "another task inside": ("validate", {"task": "train"}),
    "a folder to write to": ("submit", {"state_dir": "/srv"}),
    "two segments to propose": ("propose", {"segments": [SEGMENT, SEGMENT]}),
    "no samples": ("validate", {"samples": 0}),
    "a block of none": ("validate", {"share": [0, 0]}),
    "three parts of a share": ("validate", {"share": [0, 1, 2]}),
    "an answer with a note": ("swap", {"responses": [ANSWER | {"note": "x"}]}),
    "an endless answer": ("swap", {"responses": [ANSWER | {"text": "x" * 100_001}]}),
    "a variant that is none": ("swap", {"responses": [ANSWER | {"variant": 24}]}),
    "a name that is none": ("propose", {"segments": [SEGMENT | {"public_ids": [["p1"]]}]}),
}


@pytest.mark.parametrize(("task", "change"), WRONG.values(), ids=WRONG)
def test_anything_else_is_refused(task, change):
    with pytest.raises(Refused, match=f"instructions of {task}: ") as refusal:
        check_instructions(task, GOOD[task] | change)
    assert len(str(refusal.value)) <= 500


def test_a_task_that_is_none():
    with pytest.raises(Refused, match="no task is called 'stop'; known: train, propose"):
        check_instructions("stop", {"state_dir": "/srv"})
