"""What a receiver refuses: whole, and saying why."""

import numpy as np
import pytest
import torch
from safetensors.torch import load

from fedrlvr.protocol.adapters import as_safetensors, check_adapter, check_unmoved, payload_size
from fedrlvr.protocol.refused import Refused

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
        ({"c": torch.zeros(1)}, "tensors that are not part of the adapter: 1"),
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


def test_sizes_are_those_of_the_numbers():
    assert payload_size(adapter()) == 4 * (2 * 2 + 3)


def test_the_bytes_depend_on_the_names_and_not_on_their_order():
    given = adapter()
    assert as_safetensors(given) == as_safetensors(dict(reversed(given.items())))
    assert all(torch.equal(load(as_safetensors(given))[name], given[name]) for name in given)


def test_an_update_that_moves_a_frozen_factor_is_refused_by_its_name():
    update = {"a": torch.zeros(2, 2), "b": torch.ones(3), "c": torch.tensor([0.0, -0.0, 1e-45])}
    assert check_unmoved(update, frozenset({"a"})) is update
    assert check_unmoved(update, ()) is update
    for name in "bc":
        with pytest.raises(Refused, match=f"{name} moved, but federation.aggregator freezes it in this round"):
            check_unmoved(update, {"a", name})
