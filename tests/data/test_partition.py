"""Partitions: by hand for whole labels, by invariants for the others."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedrlvr.data.partition import PreparationError, partition

LABELS = ["geometry"] * 5 + ["algebra"] * 4 + ["counting"] * 3 + ["numbers"] * 3


def labels_of(parts: list[list[int]], labels=LABELS) -> list[dict[str, int]]:
    return [dict(Counter(labels[i] for i in part)) for part in parts]


def test_whole_labels_go_to_the_site_with_fewest():
    """5 | 4, then counting to the site with 4 (7), then numbers to the one with 5 (8)."""
    assert labels_of(partition(LABELS, 2, "label", 0, None)) == [
        {"geometry": 5, "numbers": 3},
        {"algebra": 4, "counting": 3},
    ]
    four = labels_of(partition(LABELS, 4, "label", 0, None))
    assert four == [{"geometry": 5}, {"algebra": 4}, {"counting": 3}, {"numbers": 3}]


@pytest.mark.parametrize("labels", [LABELS, [""] * 15])
def test_more_sites_than_labels_are_refused_with_both_numbers(labels):
    with pytest.raises(PreparationError, match=r"5 sites, but .* (4 labels|only one label).*--partition iid"):
        partition(labels, 5, "label", 0, None)


def test_equal_sizes_at_random():
    parts = partition(LABELS, 4, "iid", 0, None)
    assert sorted(map(len, parts)) == [3, 4, 4, 4]
    assert parts != partition(LABELS, 4, "iid", 1, None)


@pytest.mark.parametrize(("rule", "alpha"), [("iid", None), ("dirichlet", 1.0)])
def test_a_site_without_a_problem_is_refused_by_name(rule, alpha):
    with pytest.raises(
        PreparationError, match=rf"partition {rule}: site-\d+ would have no problem \(3 private .* 9 sites"
    ):
        partition(["a", "b", "c"], 9, rule, 0, alpha)


def test_alpha_says_how_unequal_sites_are():
    """The largest share that one site has of a label, on average: near 1/4 for a large alpha, near 1 for a small."""
    labels = [f"{i % 20}" for i in range(20_000)]
    shares = {}
    for alpha in (0.05, 1000.0):
        parts = labels_of(partition(labels, 4, "dirichlet", 0, alpha), labels)
        largest = [max(part.get(str(label), 0) for part in parts) / 1000 for label in range(20)]
        shares[alpha] = sum(largest) / 20
    assert shares[0.05] > 0.85
    assert 0.25 <= shares[1000.0] < 0.28


def test_other_labels_do_not_move_one_under_dirichlet():
    alone = partition(["a"] * 40, 3, "dirichlet", 7, 1.0)
    together = partition(["a"] * 40 + ["b"] * 40, 3, "dirichlet", 7, 1.0)
    assert [[i for i in part if i < 40] for part in together] == alone


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=60),
    st.integers(1, 5),
    st.sampled_from([("label", None), ("iid", None), ("dirichlet", 0.3), ("dirichlet", 5.0)]),
    st.integers(0, 5),
)
def test_every_problem_lands_once_and_the_seed_decides_where(labels, sites, how, seed):
    rule, alpha = how
    try:
        parts = partition(labels, sites, rule, seed, alpha)
    except PreparationError:
        assume(False)
    assert len(parts) == sites
    assert all(parts)
    assert sorted(i for part in parts for i in part) == list(range(len(labels)))
    assert all(part == sorted(part) for part in parts)
    assert partition(labels, sites, rule, seed, alpha) == parts
    if rule == "label":
        assert all(
            len({k for k, part in enumerate(parts) if label in {labels[i] for i in part}}) == 1 for label in labels
        )
