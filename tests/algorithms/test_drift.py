"""Drift measures by hand, on layers of one number each."""

import pytest
import torch

from fedrlvr.algorithms.aggregate import drift
from fedrlvr.types import Adapter

A, B = "x.lora_A.weight", "x.lora_B.weight"


def scalars(b: float, a: float) -> Adapter:
    return {A: torch.tensor([[float(a)]]), B: torch.tensor([[float(b)]])}


def drift_of(*deltas: tuple[float, float], start=(0.0, 0.0)) -> dict[str, float]:
    return drift(scalars(*start), [scalars(*delta) for delta in deltas])


@pytest.mark.parametrize(
    ("deltas", "cosine"),
    [
        ([(1, 0), (0, 2)], 0.0),
        ([(1, 1), (3, 3)], 1.0),
        ([(1, 1), (-2, -2)], -1.0),
        ([(1, 0), (1, 1)], 0.5**0.5),
        ([(1, 0), (0, 1), (-1, 0)], -1 / 3),  # pairs 0, -1, 0
    ],
)
def test_cosine_is_the_mean_over_pairs_of_sites(deltas, cosine):
    assert drift_of(*deltas)["drift/cosine"] == pytest.approx(cosine)


def test_cosine_and_norm_are_of_what_changed_not_of_where_it_started():
    found = drift_of((1, 0), (0, 2), start=(100, 100))
    assert found["drift/cosine"] == pytest.approx(0)
    assert found["drift/norm"] == pytest.approx(1.5)


def test_norm_is_the_mean_length_over_sites():
    assert drift_of((3, 4), (0, 1), (5, 12))["drift/norm"] == pytest.approx((5 + 1 + 13) / 3)


@pytest.mark.parametrize(
    ("deltas", "gap"),
    [
        ([(1, 1), (-1, -1)], 1.0),  # mean product 1, product of means 0
        ([(1, 1), (3, 3)], 0.2),  # 5 against 2 x 2
        ([(1, 1), (1, 3)], 0.0),  # one factor in common: nothing lost
        ([(2, 3)], 0.0),
    ],
)
def test_the_product_gap_is_what_averaging_factors_loses(deltas, gap):
    assert drift_of(*deltas)["drift/product_gap"] == pytest.approx(gap)


def test_the_product_gap_counts_the_start_in():
    """Factors (1 + 1)(0 + 1) and (1 - 1)(0 + 1): mean product 1, product of means 1 x 1."""
    assert drift_of((1, 1), (-1, 1), start=(1, 0))["drift/product_gap"] == pytest.approx(0)
    # (1 + 1)(2 + 1) = 6 and (1 - 1)(2 - 1) = 0: mean 3, of means 1 x 2
    assert drift_of((1, 1), (-1, -1), start=(1, 2))["drift/product_gap"] == pytest.approx(1 / 3)


def test_several_layers_add_up_as_squares():
    """Layer x loses 1 of 5; layer y has mean products 12 of which nothing is lost: 1 / sqrt(25 + 144)."""
    names = {"y.lora_A.weight": 3.0, "y.lora_B.weight": 4.0}
    extra = {name: torch.tensor([[value]]) for name, value in names.items()}
    start = scalars(0, 0) | {name: torch.zeros(1, 1) for name in names}
    updates = [scalars(v, v) | extra for v in (1, 3)]
    assert drift(start, updates)["drift/product_gap"] == pytest.approx(1 / 13)


def test_sites_that_did_not_move_have_no_direction_in_common():
    assert drift_of((0, 0), (0, 0)) == {"drift/cosine": 0.0, "drift/norm": 0.0, "drift/product_gap": 0.0}


def test_one_site_agrees_with_itself():
    assert drift_of((3, 4)) == {"drift/cosine": 1.0, "drift/norm": 5.0, "drift/product_gap": 0.0}
