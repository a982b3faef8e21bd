"""What a receiver refuses: whole, and saying why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrlvr.privacy.guards import MAX_TEXT, Refused, check_adapter, check_responses

SPEC = {"a": [2, 2], "b": [3]}


def adapter(**changes) -> dict:
    return {"a": torch.full((2, 2), 2.0), "b": torch.tensor([0.0, 3.0, 0.0])} | changes  # 4 x 4 + 9: norm 5


def test_a_good_adapter_passes_unchanged():
    given = adapter()
    assert check_adapter(given, SPEC, max_norm=5.0) is given
    assert torch.equal(given["a"], torch.full((2, 2), 2.0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"c": torch.zeros(1)}, "c is not part of the adapter"),
        ({"a": torch.zeros(2, 3)}, r"a has shape \[2, 3\], expected \[2, 2\]"),
        ({"a": torch.zeros(4)}, r"a has shape \[4\]"),
        ({"b": torch.zeros(())}, r"b has shape \[\]"),
        ({"b": torch.zeros(3, 1)}, r"b has shape \[3, 1\]"),
        ({"b": torch.zeros(3, dtype=torch.float64)}, r"b has dtype torch\.float64, expected torch\.float32"),
        ({"b": torch.zeros(3, dtype=torch.bfloat16)}, r"b has dtype torch\.bfloat16"),
        ({"b": torch.zeros(3, dtype=torch.int64)}, r"b has dtype torch\.int64"),
        ({"b": torch.zeros(3, dtype=torch.complex64)}, r"b has dtype torch\.complex64"),
        ({"b": torch.tensor([0, float("nan"), 0])}, "b holds values that are not finite"),
        ({"b": torch.tensor([0, float("inf"), 0])}, "b holds values that are not finite"),
        ({"b": torch.tensor([0, -float("inf"), 0])}, "b holds values that are not finite"),
        ({"b": np.zeros(3, dtype=np.float32)}, "b is ndarray, not a tensor"),
        ({"b": [0.0, 0.0, 0.0]}, "b is list, not a tensor"),
        ({"b": None}, "b is NoneType, not a tensor"),
        ({"b": torch.tensor([3e38, 3e38, 0.0])}, "L2 norm 4.243e[+]38 is beyond what a model computes with"),
    ],
)
def test_an_adapter_that_is_not_as_agreed_is_refused_with_the_tensors_name(changes, reason):
    with pytest.raises(Refused, match=reason):
        check_adapter(adapter(**changes), SPEC)


def test_a_missing_tensor_is_refused_by_name_and_count():
    with pytest.raises(Refused, match=r"tensor a is missing \(1 in all\)"):
        check_adapter({"b": torch.zeros(3)}, SPEC)
    with pytest.raises(Refused, match=r"tensor a is missing \(2 in all\)"):
        check_adapter({}, SPEC)


def test_names_that_are_not_text_are_refused_like_any_stranger():
    with pytest.raises(Refused, match="not part of the adapter"):
        check_adapter(adapter() | {7: torch.zeros(1)}, SPEC)
    with pytest.raises(Refused, match="not part of the adapter"):
        check_adapter(adapter(c=torch.zeros(1)) | {7: torch.zeros(1), None: torch.zeros(1)}, SPEC)


def test_the_norm_is_over_all_tensors_and_its_bound_is_allowed():
    check_adapter(adapter(), SPEC, max_norm=5.0)
    with pytest.raises(Refused, match=r"L2 norm 5 exceeds federation\.max_update_norm = 4\.999"):
        check_adapter(adapter(), SPEC, max_norm=4.999)


def test_values_whose_squares_overflow_float32_are_measured_all_the_same():
    with pytest.raises(Refused, match=r"1e\+30 exceeds"):
        check_adapter(adapter(b=torch.tensor([1e30, 0.0, 0.0])), SPEC, max_norm=1e29)


@pytest.mark.parametrize("value", [1.1e9, 1e30, 3e38])
def test_a_finite_value_that_would_overflow_in_the_next_model_is_refused_without_any_setting(value):
    check_adapter(adapter(b=torch.tensor([0.9e9, 0.0, 0.0])), SPEC)
    with pytest.raises(Refused, match=r"beyond what a model computes with; at most 1e\+09 is allowed"):
        check_adapter(adapter(b=torch.tensor([value, 0.0, 0.0])), SPEC)


ASKED = {"p1", "p2"}


def answer(problem_id="p1", text="#07", variant=0, **more) -> dict:
    return {"problem_id": problem_id, "text": text, "variant": variant} | more


def test_good_responses_come_back_in_order():
    records = [answer(), answer("p2", "", 5), answer(), answer(text="x" * MAX_TEXT)]
    expected = [("p1", "#07", 0), ("p2", "", 5), ("p1", "#07", 0), ("p1", "x" * MAX_TEXT, 0)]
    assert check_responses(records, ASKED, limit=4, variants=6) == expected
    assert check_responses([], ASKED, limit=0, variants=1) == []


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (None, "are NoneType, expected a list"),
        ({"problem_id": "p1", "text": "x"}, "are dict, expected a list"),
        ("text", "are str, expected a list"),
        ((answer(),), "are tuple, expected a list"),
        ([answer()] * 4, "4 responses, at most 3"),
        (["p1"], "exactly the fields"),
        ([None], "exactly the fields"),
        ([{"problem_id": "p1"}], "exactly the fields"),
        ([{"problem_id": "p1", "text": "#07"}], "exactly the fields"),
        ([{}], "exactly the fields"),
        ([answer(prompt="private")], "exactly the fields"),
        ([answer(text=7)], "must be text"),
        ([answer(text=None)], "must be text"),
        ([answer(text=b"#07")], "must be text"),
        ([answer(problem_id=1)], "must be text"),
        ([answer(problem_id=["p1"])], "must be text"),
        ([answer(variant=6)], "whole number from 0 to 5"),
        ([answer(variant=-1)], "whole number from 0 to 5"),
        ([answer(variant=True)], "whole number from 0 to 5"),
        ([answer(variant="0")], "whole number from 0 to 5"),
        ([answer(variant=0.0)], "whole number from 0 to 5"),
        ([answer("p3")], "problem 'p3', which was not asked"),
        ([answer("")], "problem '', which was not asked"),
        ([answer(), answer("p" * 9999)], "'p{80}', which was not asked"),
        ([answer(text="x" * (MAX_TEXT + 1))], "100001 characters, at most 100000"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_responses_that_are_not_as_asked_are_refused_whole(records, reason):
    with pytest.raises(Refused, match=reason):
        check_responses(records, ASKED, limit=3, variants=6)


def test_one_bad_response_refuses_the_good_ones_with_it():
    with pytest.raises(Refused):
        check_responses([answer(), answer("p2"), answer("p3")], ASKED, limit=9, variants=6)
