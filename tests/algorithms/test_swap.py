"""Which completions are replaced by which."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st

from fedrlvr.algorithms.advantages import EPSILON, group_advantages
from fedrlvr.algorithms.swap import replace_all, swap_incorrect, swap_metrics
from fedrlvr.config import SwapSettings
from fedrlvr.types import Completion, Group, Problem

PROBLEM = Problem("p", "?", "1")


def group_of(marks: str) -> Group:
    """A group from its rewards written down: "1001" has the first and the last completion right."""
    completions = (Completion((i,), (-1.0,), f"own {i}", float(mark)) for i, mark in enumerate(marks))
    return Group(PROBLEM, tuple(completions))


def pool_of(size: int) -> list[Completion]:
    return [Completion((100 + i,), None, f"pooled {i}", 1.0, origin="other") for i in range(size)]


def texts(group: Group) -> list[str]:
    return [completion.text.replace("own ", "").replace("pooled ", "P") for completion in group.completions]


def test_an_all_correct_group_is_unchanged():
    group = group_of("1111")
    assert swap_incorrect(group, pool_of(4), SwapSettings(keep_incorrect=0)) is group


def test_an_empty_pool_leaves_the_group_as_it_was():
    group = group_of("0000")
    assert swap_incorrect(group, [], SwapSettings()) is group
    assert swap_incorrect(group, [], SwapSettings(repeat=True)) is group


def test_an_all_wrong_group_is_rescued_and_keeps_one_wrong():
    mixed = swap_incorrect(group_of("0000"), pool_of(9), SwapSettings())
    assert texts(mixed) == ["0", "P2", "P1", "P0"]
    assert mixed.num_correct == 3
    assert group_advantages([mixed])[0].any()


def test_what_could_not_be_verified_is_not_wrong():
    group = group_of("1000")
    unverified = tuple(replace(c, verified=c.token_ids != (3,)) for c in group.completions)
    mixed = swap_incorrect(replace(group, completions=unverified), pool_of(9), SwapSettings())
    assert texts(mixed) == ["0", "1", "P0", "3"]
    own = replace_all(replace(group, completions=unverified), pool_of(9))
    assert own.baseline == unverified


def test_the_last_wrong_completions_are_replaced_first_and_right_ones_stay():
    assert texts(swap_incorrect(group_of("01010"), pool_of(2), SwapSettings())) == ["0", "1", "P1", "3", "P0"]


def test_what_is_partly_right_is_replaced_like_what_is_wrong():
    *others, last = group_of("0100").completions
    group = Group(PROBLEM, (*others, replace(last, reward=0.5)))
    assert texts(swap_incorrect(group, pool_of(2), SwapSettings(keep_incorrect=1))) == ["0", "1", "P1", "P0"]
    assert texts(swap_incorrect(group, pool_of(1), SwapSettings(keep_incorrect=1))) == ["0", "1", "2", "P0"]


@pytest.mark.parametrize(("keep", "swapped"), [(0, 6), (1, 5), (3, 3), (5, 1), (6, 0), (7, 0)])
def test_keep_incorrect_wrong_completions_stay(keep, swapped):
    """Two of eight are right, six wrong."""
    assert (
        swap_incorrect(group_of("10000010"), pool_of(8), SwapSettings(keep_incorrect=keep)).num_correct == 2 + swapped
    )


@pytest.mark.parametrize(("most", "swapped"), [(0, 0), (1, 1), (3, 3), (99, 5)])
def test_max_swaps_limits_the_swap(most, swapped):
    assert swap_incorrect(group_of("000000"), pool_of(8), SwapSettings(max_swaps=most)).num_correct == swapped


def test_fewer_pooled_than_wanted_are_all_used_once():
    assert texts(swap_incorrect(group_of("000000"), pool_of(2), SwapSettings())) == ["0", "1", "2", "3", "P1", "P0"]


def test_with_repeat_the_pool_is_used_again():
    mixed = swap_incorrect(group_of("000000"), pool_of(2), SwapSettings(repeat=True))
    assert texts(mixed) == ["0", "P0", "P1", "P0", "P1", "P0"]


def test_repeat_still_minds_keep_incorrect_and_max_swaps():
    assert swap_incorrect(group_of("000000"), pool_of(1), SwapSettings(repeat=True, keep_incorrect=4)).num_correct == 2
    assert swap_incorrect(group_of("000000"), pool_of(1), SwapSettings(repeat=True, max_swaps=3)).num_correct == 3


def from_sites(*origins: str) -> list[Completion]:
    return [replace(completion, origin=site) for completion, site in zip(pool_of(len(origins)), origins, strict=True)]


@pytest.mark.parametrize(
    ("limit", "repeat", "expected"),
    [
        (None, False, ["0", "1", "P4", "P3", "P2", "P1", "P0"]),
        (1, False, ["0", "1", "2", "3", "4", "P3", "P0"]),
        (2, False, ["0", "1", "2", "P4", "P3", "P1", "P0"]),
        (1, True, ["0", "1", "2", "3", "4", "P3", "P0"]),
        (2, True, ["0", "1", "2", "P4", "P3", "P1", "P0"]),
        (3, True, ["0", "P3", "P4", "P3", "P2", "P1", "P0"]),  # a: 0, 1, 2; b: 3, 4, and 3 again
    ],
)
def test_a_site_fills_no_more_places_than_it_may(limit, repeat, expected):
    pool = from_sites("a", "a", "a", "b", "b")
    settings = SwapSettings(max_per_site=limit, repeat=repeat)
    assert texts(swap_incorrect(group_of("0000000"), pool, settings)) == expected


MATCH = SwapSettings(rule="match_global")


@pytest.mark.parametrize(
    ("marks", "target", "right"),
    [
        ("00000000", None, 0),  # nobody told
        ("00000000", 0.0, 0),
        ("00000000", 0.3125, 3),  # 2.5 of 8: half up
        ("00000000", 0.31, 2),
        ("11000000", 0.5, 4),
        ("11110000", 0.25, 4),  # better than the mean: nothing is taken away
        ("00000000", 1.0, 7),  # keep_incorrect is 1
        ("0000000000", (0.6 + 0.7) / 2, 7),  # 6.5, in floating point 6.499...
    ],
)
def test_match_global_swaps_up_to_the_mean_share(marks, target, right):
    assert swap_incorrect(group_of(marks), pool_of(10), MATCH, target).num_correct == right


def test_match_global_keeps_the_bounds_of_fill():
    assert swap_incorrect(group_of("0000"), pool_of(1), MATCH, 1.0).num_correct == 1
    settings = SwapSettings(rule="match_global", max_swaps=2)
    assert swap_incorrect(group_of("00000"), pool_of(9), settings, 1.0).num_correct == 2


def test_only_verified_completions_count_towards_the_mean_share():
    """Of four, two were not verified: half of the other two is one."""
    group = group_of("0000")
    group = replace(group, completions=tuple(replace(c, verified=c.token_ids > (1,)) for c in group.completions))
    assert texts(swap_incorrect(group, pool_of(4), MATCH, 0.5)) == ["0", "1", "2", "P0"]


def test_fill_minds_no_target():
    assert swap_incorrect(group_of("0000"), pool_of(4), SwapSettings(), 0.25).num_correct == 3


@quick(max_examples=50, deadline=None)
@given(
    marks=st.text("01", min_size=2, max_size=8),
    pooled=st.integers(0, 10),
    keep=st.integers(0, 7),
    most=st.none() | st.integers(0, 8),
    repeat=st.booleans(),
)
def test_only_wrong_completions_are_replaced_and_exactly_as_many_as_the_rule_says(marks, pooled, keep, most, repeat):
    group, pool = group_of(marks), pool_of(pooled)
    mixed = swap_incorrect(group, pool, SwapSettings(keep_incorrect=keep, max_swaps=most, repeat=repeat))
    pairs = list(zip(group.completions, mixed.completions, strict=True))
    replaced = [new for old, new in reversed(pairs) if new is not old]
    wrong = marks.count("0")
    available = len(marks) if repeat and pooled else pooled
    limit = len(marks) if most is None else most
    assert len(replaced) == max(0, min(available, wrong - keep, limit))
    assert all(not old.correct for old, new in pairs if new is not old)
    assert replaced == [pool[i % pooled] for i in range(len(replaced))]
    assert mixed.problem is group.problem


def test_replace_all_takes_every_completion_from_the_pool():
    assert texts(replace_all(group_of("1000"), pool_of(3))) == ["P0", "P1", "P2", "P0"]
    assert texts(replace_all(group_of("10"), pool_of(3))) == ["P0", "P1"]


def test_replace_all_without_a_pool_leaves_the_group_and_its_baseline():
    group = group_of("1000")
    assert replace_all(group, []) is group
    assert group.baseline is None


def test_replace_all_is_judged_against_the_receivers_own_rewards():
    group = group_of("1000")
    mixed = replace_all(group, pool_of(4))
    assert mixed.baseline == group.completions
    assert group_advantages([mixed])[0] == pytest.approx([0.75 / (0.5 + EPSILON)] * 4)  # mean 1/4, deviation 1/2


def test_replace_all_teaches_most_where_the_receiver_never_succeeds_and_nothing_where_it_always_does():
    values = {
        marks: group_advantages([replace_all(group_of(marks), pool_of(4))], "none")[0]
        for marks in ("0000", "1100", "1111")
    }
    assert values["0000"] == pytest.approx([1.0] * 4)
    assert values["1100"] == pytest.approx([0.5] * 4)
    assert not values["1111"].any()


def test_swap_metrics_by_hand():
    """Three groups of four: one rescued with 3 swaps, one all wrong without a pool, one mixed with 1 swap."""
    before = [group_of("0000"), group_of("0000"), group_of("1100")]
    after = [
        swap_incorrect(before[0], pool_of(4), SwapSettings()),
        before[1],
        swap_incorrect(before[2], pool_of(4), SwapSettings()),
    ]
    assert swap_metrics(before, after) == {
        "swap/completions": 4.0,
        "swap/fraction": 4 / 12,
        "swap/all_wrong_groups": 2.0,
        "swap/rescued_groups": 1.0,
    }


def test_swap_metrics_of_no_groups_are_zero():
    assert set(swap_metrics([], []).values()) == {0.0}
