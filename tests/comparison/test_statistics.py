"""The comparison's arithmetic, by hand."""

import pytest

from fedrlvr.comparison.statistics import (
    UnequalWork,
    ahead,
    by_variant,
    check_equal_work,
    ended,
    finals,
    mean_curve,
    mean_live,
    mean_matrix,
    reached,
)


def test_records_are_by_variant_and_pair(records):
    variants = by_variant(records)
    assert {name: list(found) for name, found in variants.items()} == {
        "pubswap": [(0, 10), (0, 11), (0, 12)],
        "fedavg": [(0, 10), (0, 11), (0, 12)],
    }
    assert finals(variants["fedavg"]) == [0.6, 0.6, 0.3]


def test_the_lead_is_the_mean_of_paired_differences(records):
    """0.3, 0.2, 0.4: mean 0.3, deviation 0.1, so 4.303 x 0.1 / sqrt 3 = 0.248 on both sides."""
    variants = by_variant(records)
    lead = ahead(variants["pubswap"], variants["fedavg"])
    assert (lead.value, lead.half, lead.count) == (pytest.approx(0.3), pytest.approx(0.2484, abs=1e-4), 3)
    assert ahead(variants["pubswap"], {(1, 10): records[0]}) is None


def test_a_pair_is_a_seed_and_a_base_model(record):
    one, other = record(seed=1, base_model=2), record("fedavg", seed=2, base_model=1)
    assert ahead(by_variant([one])["pubswap"], by_variant([other])["fedavg"]) is None


def test_intervals_are_over_seeds_of_means_over_base_models(record):
    """Seeds end at (0.8 + 0.6) / 2 = 0.7 and (0.9 + 0.9) / 2 = 0.9: two values, however many base models."""
    ends = {(0, 1): 0.8, (1, 1): 0.6, (0, 2): 0.9, (1, 2): 0.9}
    mean = ended(by_variant([record(base_model=m, seed=s, final=end) for (m, s), end in ends.items()])["pubswap"])
    assert (mean.value, mean.count) == (pytest.approx(0.8), 2)
    assert mean.half == pytest.approx(12.706 * 0.02**0.5 / 2**0.5, rel=1e-3)


def test_when_the_reference_had_the_others_end(record):
    """Of an end at 0.35 the average after segment 2 has enough, and the point after it, too; of one at 0.45 the sites
    after segment 4 do. The median of 2/4 and 4/4 of the rounds, and of 200 and 300 of 400 bytes."""
    reference = by_variant([record(seed=1), record(seed=2)])["pubswap"]
    others = by_variant([record("fedavg", seed=1, final=0.45), record("fedavg", seed=2, final=0.35)])["fedavg"]
    found = reached(reference, others)
    assert (found.rounds, found.bytes) == (0.75, (300 / 400 + 200 / 400) / 2)


def test_one_high_measurement_is_not_enough(record):
    curve = [{"which": "own", "segment": s, "pass@1": p, "bytes": 100 * s} for s, p in ((1, 0.6), (2, 0.3), (4, 0.5))]
    reference = by_variant([record(curve=curve, final=0.5)])["pubswap"]
    assert reached(reference, by_variant([record("fedavg", final=0.5)])["fedavg"]).rounds == 1.0


def test_an_end_that_half_of_the_pairs_never_had(record):
    seeds = [record(seed=seed, final=end) for seed, end in ((1, 0.9), (2, 0.5), (3, 0.5))]
    others = by_variant([record("fedavg", seed=seed, final=0.6) for seed in (1, 2, 3)])["fedavg"]
    assert reached(by_variant(seeds)["pubswap"], others) is None
    assert reached(by_variant(seeds[:1])["pubswap"], others).rounds == 1.0


def test_equal_work_passes(records):
    check_equal_work(by_variant(records))


@pytest.mark.parametrize(("key", "value"), [("batches", 9.0), ("completions", 511), ("tokens", 5600)])
def test_unequal_work_is_told(record, key, value):
    work = record()["work"] | {key: value}
    with pytest.raises(UnequalWork, match=f"{key} of .*pubswap.*fedavg"):
        check_equal_work(by_variant([record(), record("fedavg", work=work)]))


def test_work_is_compared_within_a_pair_only(record):
    work = record()["work"] | {"batches": 9.0}
    check_equal_work(by_variant([record(seed=1), record("fedavg", seed=2, work=work)]))


def test_mean_curves(records):
    """Averages of pubswap: 0.1 before, 0.4 after round 1, mean 0.8 at the end, where the deviation is 0.1."""
    pubswap = by_variant(records)["pubswap"]
    own, averaged = mean_curve(pubswap, "own"), mean_curve(pubswap, "averaged")
    assert [(s, pytest.approx(m), pytest.approx(h, abs=1e-9)) for s, m, h in own] == [(2, 0.3, 0.0), (4, 0.5, 0.0)]
    assert averaged[-1] == (4, pytest.approx(0.8), pytest.approx(0.2484, abs=1e-4))


def test_mean_live_groups_and_matrix(record):
    runs = by_variant([record(seed=1), record(seed=2, live=[[1, 1.0]], final=0.5)])["pubswap"]
    assert mean_live(runs) == [(1, 0.75), (2, 0.75), (3, 1.0), (4, 1.0)]
    assert mean_matrix(runs)["averaged"] == {"A": pytest.approx(0.7), "B": pytest.approx(0.7)}
