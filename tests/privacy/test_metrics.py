"""Which numbers leave."""

from __future__ import annotations

import pytest

from fedrlvr.protocol.refused import Refused
from fedrlvr.privacy.metrics import allowed_metrics
from fedrlvr.privacy.policy import MetricRules

PRIVATE = {"kind": "private", "segment": 0, "reward": 0.25, "live_groups": 1.0, "groups": 2.0}
PUBLIC = PRIVATE | {"kind": "public"}
SPEC = {"a.lora_A.weight": [2, 3]}
TEST = {"A": {"problems": 4, "pass@1": 0.5}}
HELDOUT = {
    "gout": {"problems": 1, "pass@1": 1.0, "pass@4": 1.0},
    "scurvy": {"problems": 3, "pass@1": 0.0, "pass@4": 0.5},
}
ABOUT = {"adapter_spec": SPEC, "base_model": "0123456789abcdef"}
ANSWER = {"scores": {"test": TEST, "heldout": HELDOUT}} | ABOUT


def test_numbers_of_private_steps_stay_where_the_policy_says_so():
    data = {"metrics": [PRIVATE, PUBLIC, PRIVATE]}
    assert allowed_metrics(data, MetricRules()) == (data, {"private_steps": 0})
    assert allowed_metrics(data, MetricRules(private_steps=False)) == ({"metrics": [PUBLIC]}, {"private_steps": 2})


def test_held_out_scores_by_label_overall_or_not_at_all():
    assert allowed_metrics(ANSWER, MetricRules())[0] == ANSWER
    allowed, dropped = allowed_metrics(ANSWER, MetricRules(heldout="overall"))
    # 1 problem solved of 4; pass@4 is (1 x 1.0 + 3 x 0.5) / 4.
    assert allowed["scores"]["heldout"] == {"all": {"problems": 4, "pass@1": 0.25, "pass@4": 0.625}}
    assert dropped == {"heldout": 1}
    allowed, dropped = allowed_metrics(ANSWER, MetricRules(heldout="none"))
    assert allowed == {"scores": {"test": TEST}} | ABOUT
    assert dropped == {"heldout": 2}
    assert set(ANSWER["scores"]) == {"test", "heldout"}  # the site's own copy is as it was


def test_what_stays_decides_nothing_about_the_rest():
    """Else a refusal would tell of a private step that something was odd about it."""
    odd = PRIVATE | {"reward": float("nan")}
    assert allowed_metrics({"metrics": [odd, PUBLIC]}, MetricRules(private_steps=False))[0] == {"metrics": [PUBLIC]}
    scores = {"scores": {"test": TEST, "heldout": {"HIV": {"problems": 0}}}} | ABOUT
    assert allowed_metrics(scores, MetricRules(heldout="none"))[0]["scores"] == {"test": TEST}
    with pytest.raises(Refused) as refusal:
        allowed_metrics(scores, MetricRules(heldout="overall"))
    assert "HIV" not in str(refusal.value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [PUBLIC],
        {},
        {"metrics": [PUBLIC], "note": "x"},
        {"metrics": [PUBLIC | {"reward": "0.5"}]},
        {"metrics": [PUBLIC | {"patient name": 1.0}]},
        {"metrics": [{"kind": "public"}]},
        {"scores": {"test": TEST}},
        {"scores": {"test": TEST}, "adapter_spec": SPEC},
        {"scores": {"test": TEST, "train": TEST}} | ABOUT,
        {"scores": {"test": TEST}} | ABOUT | {"adapter_spec": {"a": ["text", 2]}},
        {"scores": {"test": TEST}} | ABOUT | {"base_model": "John Doe, born 01"},
        ANSWER | {"responses": []},
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(Refused):
        allowed_metrics(data, MetricRules())
