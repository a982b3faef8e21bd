"""What a server may tell a site to do: exactly that, in exactly those types."""

from dataclasses import asdict

import pytest

from fedrlvr.protocol.records import Envelope, PublicResponse, Segment
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import REQUESTS, places_to_measure
from fedrlvr.protocol.strict import parsed

HERE = Envelope.here("manifest", 1, 7).model_dump()
SEGMENT = asdict(Segment(index=3, private_steps=2, public_ids=("p1", "p2")))
ANSWER = asdict(PublicResponse("p1", "#4", 0, (-0.5, 0.0)))
GOOD = {
    "train": {"segments": [SEGMENT, SEGMENT], "exchange": True, "begin_round": False, "adapter_spec": "ab12"},
    "propose": {"segment": SEGMENT},
    "swap": {"segment": SEGMENT, "responses": [["site-2", ANSWER]], "targets": {"p2": 0.25}},
    "submit": {},
    "validate": {"samples": 4, "share": [0, 4], "name": "base 0"},
}


def read(task: str, /, **changes):
    return parsed(REQUESTS[task], {"envelope": HERE} | GOOD[task] | changes, f"the request {task}")


def place(**changes) -> dict:
    return {"envelope": HERE | changes}


@pytest.mark.parametrize("task", GOOD)
def test_what_the_server_says_is_understood_and_says_the_same_again(task):
    request = read(task)
    assert request.task == task
    assert type(request).model_validate_json(request.model_dump_json()) == request


def test_what_is_understood():
    assert sum(segment.private_steps for segment in read("train").segments) == 4
    assert read("propose").segment == Segment(3, 2, ("p1", "p2"))
    ((site, response),) = read("swap").responses
    assert (site, response, response.logprobs) == ("site-2", PublicResponse("p1", "#4", 0), (-0.5, 0.0))
    assert read("swap").targets == {"p2": 0.25}
    assert read("validate", share=None).share is None


def test_what_a_job_does_not_ask_for_takes_no_place_in_a_message():
    plain = read("swap", responses=[["site-2", asdict(PublicResponse("p1", "#4"))]], targets={})
    said = plain.model_dump(mode="json")
    assert said["responses"] == [["site-2", {"problem_id": "p1", "text": "#4", "variant": 0}]]
    assert "targets" not in said


@pytest.mark.parametrize(
    ("share", "problems", "places"),
    [
        (None, None, [0, 1, 2, 3, 4, 5, 6, 7]),
        (None, 100, [0, 1, 2, 3, 4, 5, 6, 7]),
        (None, 4, [0, 1, 4, 5]),  # of each label every second: no one is left out, whatever their order
        (None, 1, [0]),
        ((0, 3), None, [0, 1]),
        ((2, 3), None, [5, 6, 7]),
    ],
)
def test_where_the_problems_to_measure_stand(share, problems, places):
    labels = ["A", "B", "A", "B", "A", "B", "A", "B"]
    assert list(places_to_measure(labels, share, problems)) == places


# Each would otherwise run something else than was paid for, or somewhere else.
WRONG = {
    "steps that cancel out": ("train", {"segments": [SEGMENT | {"private_steps": n} for n in (10, -10)]}),
    "a step that is a truth": ("train", {"segments": [SEGMENT | {"private_steps": True}]}),
    "a round that is none": ("train", place(round=-2)),
    "a round that is a truth": ("submit", place(round=True)),
    "a segment without end": ("submit", place(segment=10**9)),
    "an envelope with a note": ("submit", place(note="x")),
    "an envelope without a version": ("submit", {"envelope": {k: v for k, v in HERE.items() if k != "version"}}),
    "no envelope": ("submit", {"envelope": None}),
    "half a step": ("train", {"segments": [SEGMENT | {"private_steps": 0.5}]}),
    "steps as text": ("train", {"segments": [SEGMENT | {"private_steps": "2"}]}),
    "steps without end": ("train", {"segments": [SEGMENT | {"private_steps": 10**9}]}),
    "a field more in a segment": ("train", {"segments": [SEGMENT | {"local_steps": 7}]}),
    "no segment": ("train", {"segments": []}),
    "another task inside": ("validate", {"task": "train"}),
    "a folder to write to": ("submit", {"state_dir": "/srv"}),
    "two segments to propose": ("propose", {"segment": [SEGMENT, SEGMENT]}),
    "no samples": ("validate", {"samples": 0}),
    "a block of none": ("validate", {"share": [0, 0]}),
    "three parts of a share": ("validate", {"share": [0, 1, 2]}),
    "an answer with a note": ("swap", {"responses": [["site-2", ANSWER | {"note": "x"}]]}),
    "an endless answer": ("swap", {"responses": [["site-2", ANSWER | {"text": "x" * 100_001}]]}),
    "a variant that is none": ("swap", {"responses": [["site-2", ANSWER | {"variant": 24}]]}),
    "a token more than certain": ("swap", {"responses": [["site-2", ANSWER | {"logprobs": [0.1]}]]}),
    "a token that is no number": ("swap", {"responses": [["site-2", ANSWER | {"logprobs": [float("nan")]}]]}),
    "a token beyond numbers": ("swap", {"responses": [["site-2", ANSWER | {"logprobs": [-1e300]}]]}),
    "endless tokens": ("swap", {"responses": [["site-2", ANSWER | {"logprobs": [-1.0] * 400_002}]]}),
    "a target of what was not asked": ("swap", {"targets": {"p3": 0.5}}),
    "a target above all": ("swap", {"targets": {"p1": 1.01}}),
    "a target that is no number": ("swap", {"targets": {"p1": float("nan")}}),
    "nobody's answer": ("swap", {"responses": [ANSWER]}),
    "an answer of two": ("swap", {"responses": [["site-2", "site-3", ANSWER]]}),
    "a site without a name": ("swap", {"responses": [[2, ANSWER]]}),
    "a site with an endless name": ("swap", {"responses": [["x" * 1001, ANSWER]]}),
    "a name that is none": ("propose", {"segment": SEGMENT | {"public_ids": [["p1"]]}}),
    "what is no JSON": ("submit", {"envelope": {1, 2}}),
}


@pytest.mark.parametrize(("task", "change"), WRONG.values(), ids=WRONG)
def test_anything_else_is_refused(task, change):
    with pytest.raises(Refused, match=f"the request {task}") as refusal:
        read(task, **change)
    assert len(str(refusal.value)) <= 500


def test_a_refusal_names_the_field_and_quotes_nothing():
    with pytest.raises(Refused, match=r"^the request swap, responses\.0\.1\.text: ") as refusal:
        read("swap", responses=[["site-2", ANSWER | {"text": ["Mrs Smith"]}]])
    assert "Smith" not in str(refusal.value)
