"""What the server refuses to write down."""

from __future__ import annotations

import pytest
from fedrlvr.privacy.reports import check_base_model, check_scores, check_spec, check_steps

from fedrlvr.protocol.refused import Refused

STEP = {"kind": "private", "segment": 0, "reward": 0.5, "live_groups": 1.0, "groups": 2.0, "swap/fraction": 0.1}
SCORES = {"test": {"A": {"problems": 4, "pass@1": 0.5, "pass@4": 1.0}}}


def test_honest_reports_pass_as_they_are():
    assert check_steps({"metrics": [STEP]}) == [STEP]
    assert check_scores({"scores": SCORES}) == SCORES
    assert check_spec({"adapter_spec": {"x.lora_A.weight": [2, 3]}}) == {"x.lora_A.weight": [2, 3]}


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        "text",
        [None],
        [{}],
        [STEP | {"kind": "secret"}],
        [STEP | {"reward": float("nan")}],
        [STEP | {"reward": 10**400}],
        [STEP | {"reward": "0.5"}],
        [STEP | {"event": "end of the world"}],
        [STEP | {"a patient's name": 1.0}],
        *([STEP | {name: 1.0}] for name in ("event", "time", "round", "site", "self")),  # the event log's own words
        [STEP | {7: 1.0}],
        [{k: v for k, v in STEP.items() if k != "reward"}],
        [STEP] * 10_001,
    ],
)
def test_step_records_that_are_refused(metrics):
    with pytest.raises(Refused):
        check_steps({"metrics": metrics})


@pytest.mark.parametrize(
    "scores",
    [
        None,
        {},
        {"heldout": {}},
        SCORES | {"private": {}},
        {"test": []},
        {"test": {"A": {"problems": 4}}},
        {"test": {"A": {"problems": 0, "pass@1": 0.5}}},
        {"test": {"A": {"problems": 4, "pass@1": 1.5}}},
        {"test": {"A": {"problems": 4, "pass@1": float("nan")}}},
        {"test": {"A": {"problems": 4, "pass@1": 0.5, "note": "text"}}},
        {"test": {"overall": {"problems": 4, "pass@1": 0.5}}},
        {"test": {str(i): {"problems": 1, "pass@1": 0.0} for i in range(1001)}},
    ],
)
def test_scores_that_are_refused(scores):
    with pytest.raises(Refused):
        check_scores({"scores": scores})


@pytest.mark.parametrize(
    "spec", [None, {}, {"x": [2]}, {"x": [2, 0]}, {"x": [2, 2.5]}, {"x": [2, 9**5000]}, {"x": "2x2"}, {3: [1, 1]}]
)
def test_adapter_shapes_that_are_refused(spec):
    with pytest.raises(Refused):
        check_spec({"adapter_spec": spec})


def test_a_base_model_is_named_by_its_fingerprint_and_nothing_else():
    assert check_base_model({"base_model": "0123456789abcdef"}) == "0123456789abcdef"
    for told in (None, "", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "patient 12345678", 16):
        with pytest.raises(Refused):
            check_base_model({"base_model": told})
