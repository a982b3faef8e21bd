"""The aggregators against dense linear algebra."""

import pytest
import torch

from fedrlvr.algorithms.aggregate import AGGREGATORS, drift, truncate_product
from fedrlvr.config import FederationSettings
from fedrlvr.types import Adapter

A, B = "layer.q.lora_A.weight", "layer.q.lora_B.weight"
OTHER_A, OTHER_B = "layer.v.lora_A.weight", "layer.v.lora_B.weight"


FEDIT, SVD = AGGREGATORS["fedit"], AGGREGATORS["svd"]
TRIMS = FederationSettings(trim_fraction=0.4)  # so that three sites are enough for every aggregator


def random_adapter(seed: int, d_out=6, d_in=5, rank=2) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    shapes = {A: (rank, d_in), B: (d_out, rank), OTHER_A: (rank, d_in + 1), OTHER_B: (d_out + 2, rank)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def updates_to(start: Adapter, *ends: Adapter) -> list[Adapter]:
    return [{name: end[name] - start[name] for name in start} for end in ends]


def products(adapter: Adapter) -> list[torch.Tensor]:
    return [adapter[b].double() @ adapter[a].double() for a, b in ((A, B), (OTHER_A, OTHER_B))]


def best_of_rank(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] @ torch.diag(s[:rank]) @ vt[:rank]


def test_fedit_by_hand():
    """((1, 0) + (3, 4)) / 2 = (2, 2) on top of (1, 2)."""
    start = {A: torch.tensor([[1.0, 2.0]]), B: torch.tensor([[0.0], [8.0]])}
    deltas = [
        {A: torch.tensor([[1.0, 0.0]]), B: torch.tensor([[4.0], [0.0]])},
        {A: torch.tensor([[3.0, 4.0]]), B: torch.tensor([[0.0], [-4.0]])},
    ]
    result = FEDIT(start, deltas[:2])
    assert result[A].tolist() == [[3.0, 4.0]]
    assert result[B].tolist() == [[2.0], [6.0]]


def test_fedit_weighs_updates_by_the_work_in_them():
    """(3 (4, 0) + 1 (0, 4)) / 4 = (3, 1)."""
    start = {A: torch.zeros(1, 2), B: torch.zeros(2, 1)}
    updates = [{A: torch.tensor([row]), B: torch.zeros(2, 1)} for row in ([4.0, 0.0], [0.0, 4.0])]
    assert FEDIT(start, updates, work=[6, 2])[A].tolist() == [[3.0, 1.0]]


def test_svd_weighs_the_sites_products_by_work():
    start, *ends = (random_adapter(seed, 4, 4, 4) for seed in range(3))
    result = SVD(start, updates_to(start, *ends), work=[3, 1])
    for layer, found in enumerate(products(result)):
        mean = 0.75 * products(ends[0])[layer] + 0.25 * products(ends[1])[layer]
        torch.testing.assert_close(found, best_of_rank(mean, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_equal_work_changes_no_bit(name):
    start, *ends = (random_adapter(seed) for seed in range(4))
    plain, weighed = (AGGREGATORS[name](start, updates_to(start, *ends), TRIMS, work) for work in (None, [5, 5, 5]))
    assert all(torch.equal(plain[key], weighed[key]) for key in start)


@pytest.mark.parametrize(("d_out", "d_in", "rank"), [(6, 5, 2), (3, 7, 2), (7, 3, 2), (4, 4, 4), (9, 9, 1)])
def test_svd_gives_the_best_rank_r_of_the_averaged_product(d_out, d_in, rank):
    start, *ends = (random_adapter(seed, d_out, d_in, rank) for seed in range(4))
    result = SVD(start, updates_to(start, *ends))
    for layer, found in enumerate(products(result)):
        mean = sum(products(end)[layer] for end in ends) / 3
        torch.testing.assert_close(found, best_of_rank(mean, rank), atol=1e-5, rtol=1e-5)
    assert {name: tensor.shape for name, tensor in result.items()} == {n: t.shape for n, t in start.items()}


def test_svd_factors_are_balanced():
    start, *ends = (random_adapter(seed, rank=3) for seed in range(3))
    result = SVD(start, updates_to(start, *ends))
    torch.testing.assert_close(result[B].T @ result[B], result[A] @ result[A].T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "sites"), [(n, k) for n in AGGREGATORS for k in (1, 2, 3, 5) if k > 2 or n != "trimmed_mean"]
)
def test_identical_sites_amount_to_one(name, sites):
    start, end = random_adapter(0), random_adapter(1)
    result = AGGREGATORS[name](start, updates_to(start, *[end] * sites), TRIMS)
    for found, expected in zip(products(result), products(end), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_order_of_sites_does_not_change_the_product(name):
    start, *ends = (random_adapter(seed) for seed in range(4))
    updates = updates_to(start, *ends)
    forward, backward = (AGGREGATORS[name](start, order, TRIMS) for order in (updates, updates[::-1]))
    for found, expected in zip(products(forward), products(backward), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_zero_product_keeps_a_so_that_training_can_go_on():
    """Were both factors 0, the gradient of each (the other) would be 0 for ever."""
    start = random_adapter(0)
    for name in (B, OTHER_B):
        start[name].zero_()
    result = SVD(start, updates_to(start, start, start))
    for name in (A, OTHER_A):
        assert torch.equal(result[name], start[name])
    for name in (B, OTHER_B):
        assert not result[name].any()


def test_a_product_of_lower_rank_leaves_directions_to_train_in():
    """B has one column of three in use: the product is kept, and the spare columns of B see a gradient from A."""
    start, end = random_adapter(0, rank=3), random_adapter(1, rank=3)
    end[B][:, 1:] = 0
    result = SVD(start, updates_to(start, end, end))
    torch.testing.assert_close(products(result)[0], products(end)[0], atol=1e-5, rtol=1e-5)
    columns = result[B].norm(dim=0)
    assert int((columns > 0).sum()) == 1
    assert bool((result[A][columns == 0].norm(dim=1) > 0.1).all())
    assert int(torch.linalg.matrix_rank(result[A])) == 3


@pytest.mark.parametrize(("d_out", "d_in"), [(8, 2), (2, 8), (2, 2), (3, 3)])
@pytest.mark.parametrize("sites", [1, 3])
def test_a_layer_narrower_than_the_rank_is_aggregated_exactly(d_out, d_in, sites):
    """Rank 4: the product has at most rank 2 or 3, so nothing is lost, and the shapes stay."""
    start, *ends = (random_adapter(seed, d_out, d_in, 4) for seed in range(sites + 1))
    result = SVD(start, updates_to(start, *ends))
    assert result[A].shape == (4, d_in)
    assert result[B].shape == (d_out, 4)
    mean = sum(products(end)[0] for end in ends) / sites
    torch.testing.assert_close(products(result)[0], mean, atol=1e-5, rtol=1e-5)


def test_equal_products_give_equal_factors():
    """A product says nothing about how it was factored: B M and M^-1 A multiply to the same for every M."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        left, right, mix = (torch.randn(s, generator=generator).double() for s in ((6, 3), (3, 5), (3, 3)))
        b, a = truncate_product(left, right, 3)
        mixed_b, mixed_a = truncate_product(left @ mix, torch.linalg.solve(mix, right), 3)
        torch.testing.assert_close(mixed_b, b, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(mixed_a, a, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_nothing_to_aggregate_is_an_error(name):
    with pytest.raises(ValueError, match="nothing to aggregate"):
        AGGREGATORS[name](random_adapter(0), [])


@pytest.mark.parametrize("name", AGGREGATORS)
def test_names_come_back_sorted_and_dtypes_as_they_were(name):
    start = dict(reversed(random_adapter(0).items()))
    result = AGGREGATORS[name](start, updates_to(start, *map(random_adapter, (1, 2, 3))), TRIMS)
    assert list(result) == sorted(start)
    assert {tensor.dtype for tensor in result.values()} == {torch.float32}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_factor_lies_in_one_piece_in_memory(name):
    """FLARE sends no other tensor."""
    start = random_adapter(0)
    merged = AGGREGATORS[name](start, updates_to(start, *map(random_adapter, (1, 2, 3))), TRIMS)
    assert all(tensor.is_contiguous() for tensor in merged.values())


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_inputs_are_left_alone(name):
    start, *ends = map(random_adapter, (0, 1, 2, 3))
    updates = updates_to(start, *ends)
    before = {key: tensor.clone() for key, tensor in start.items()}, {k: v.clone() for k, v in updates[0].items()}
    AGGREGATORS[name](start, updates, TRIMS)
    for kept, now in zip(before, (start, updates[0]), strict=True):
        assert all(torch.equal(kept[key], now[key]) for key in kept)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("ffa", [{A, OTHER_A}] * 3),
        ("rolora", [{A, OTHER_A}, {B, OTHER_B}, {A, OTHER_A}]),
        ("svd", [set()] * 3),
        ("fedit", [set()] * 3),
        ("median", [set()] * 3),
    ],
)
def test_which_factors_stay_as_they_are_in_each_round(name, frozen):
    """RoLoRA's B goes first: at the start it is 0, and A has no gradient."""
    assert [AGGREGATORS[name].frozen(random_adapter(0), number) for number in range(3)] == frozen


@pytest.mark.parametrize(("name", "number"), [("ffa", 0), ("ffa", 1), ("rolora", 0), ("rolora", 1)])
def test_where_one_factor_is_frozen_the_mean_of_the_products_is_exact(name, number):
    start, *ends = (random_adapter(seed) for seed in range(4))
    frozen = AGGREGATORS[name].frozen(start, number)
    updates = [{n: torch.zeros_like(t) if n in frozen else t for n, t in u.items()} for u in updates_to(start, *ends)]
    result = AGGREGATORS[name](start, updates)
    assert all(torch.equal(result[n], start[n]) for n in frozen)
    moved = [{n: start[n] + update[n] for n in start} for update in updates]
    for layer, found in enumerate(products(result)):
        torch.testing.assert_close(found, sum(products(end)[layer] for end in moved) / 3, atol=1e-5, rtol=1e-5)
    assert drift(start, updates)["drift/product_gap"] < 1e-7
