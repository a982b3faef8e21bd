"""One problem's share, bounded."""

from __future__ import annotations

import pytest
import torch

from fedrlvr.algorithms.dp_gradient import clipped


def test_by_hand():
    gradient = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    parts, norm = clipped(gradient, 2.5)
    assert norm == 5.0
    assert [part.tolist() for part in parts] == [[1.5], [[0.0, 2.0]]]  # jointly, not tensor by tensor
    assert [part.dtype for part in parts] == [torch.float64] * 2
    parts, norm = clipped(gradient, 100.0)
    assert [part.tolist() for part in parts] == [[3.0], [[0.0, 4.0]]]
    assert clipped([torch.zeros(3)], 1.0)[1] == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_no_number_bounds_counts_as_nothing(value):
    parts, _ = clipped([torch.tensor([1.0, value]), torch.tensor([2.0])], 1.0)
    assert all(bool((part == 0).all()) for part in parts)
