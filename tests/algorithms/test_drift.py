"""Drift measures by hand, on layers of one number each."""

import pytest
import torch

from fedrlvr.algorithms.aggregate import drift
from fedrlvr.algorithms.lora import factor_pairs
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


def plainly(start: Adapter, updates: list[Adapter]) -> dict[str, float]:
    """The definitions word for word, every product formed."""
    flat = torch.stack([torch.cat([update[name].flatten().double() for name in sorted(start)]) for update in updates])
    unit = flat / flat.norm(dim=1).clamp(min=1e-30).unsqueeze(1)
    cosines = [float(a @ b) for i, a in enumerate(unit) for b in unit[:i]]
    gap = total = 0.0
    for name_a, name_b in factor_pairs(start):
        a = torch.stack([start[name_a].double() + update[name_a].double() for update in updates])
        b = torch.stack([start[name_b].double() + update[name_b].double() for update in updates])
        product = (b @ a).mean(0)
        gap += float((product - b.mean(0) @ a.mean(0)).square().sum())
        total += float(product.square().sum())
    return {
        "drift/cosine": sum(cosines) / len(cosines) if cosines else 1.0,
        "drift/norm": float(flat.norm(dim=1).mean()),
        "drift/product_gap": (gap / total) ** 0.5,
    }


def drawn(scale: float, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    x, y = (
        {"x.lora_A.weight": (3, 20), "x.lora_B.weight": (11, 3)},
        {"y.lora_A.weight": (2, 7), "y.lora_B.weight": (9, 2)},
    )
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in (x | y).items()}


NOTHING = {name: tensor * 0 for name, tensor in drawn(1.0, 0).items()}


@pytest.mark.parametrize(
    "updates",
    [
        [drawn(0.1, 1), drawn(0.1, 2), drawn(0.3, 3)],
        [drawn(1e-6, 1), drawn(1e-6, 2)],  # the gap is a millionth of a millionth of the product
        [drawn(0.1, 1), NOTHING, drawn(0.1, 2)],
        [NOTHING, NOTHING],
        [drawn(0.1, 1)] * 4,
        [drawn(0.1, 1)],
    ],
    ids=["random", "hardly moved", "one did not move", "none moved", "identical", "one site"],
)
def test_drift_is_what_its_plain_definition_gives(updates):
    start = drawn(0.5, 0)
    assert drift(start, updates) == pytest.approx(plainly(start, updates), rel=1e-9, abs=1e-14)


def test_a_product_is_never_formed():
    """Of this layer it would take 32 TB."""
    wide = {"x.lora_A.weight": torch.ones(1, 2_000_000), "x.lora_B.weight": torch.ones(2_000_000, 1)}
    assert drift(wide, [wide, wide])["drift/cosine"] == pytest.approx(1)
