"""Group advantages against values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.algorithms.advantages import EPSILON, group_advantages
from fedrlvr.types import Completion, Group, Problem

SCALINGS = ("group", "batch", "none")


def group_of(rewards, baseline=None) -> Group:
    def completions(rewards):
        return tuple(Completion((1,), None, str(i), reward) for i, reward in enumerate(rewards))

    return Group(Problem("p", "?", "1"), completions(rewards), baseline and completions(baseline))


def test_one_right_of_four_in_units_of_the_groups_deviation():
    """Mean 1/4; squared deviations 9/16 + 3/16 = 3/4 over n - 1 = 3 give a standard deviation of 1/2."""
    (advantages,) = group_advantages([group_of([0, 1, 0, 0])])
    unit = 0.5 + EPSILON
    assert advantages == pytest.approx([-0.25 / unit, 0.75 / unit, -0.25 / unit, -0.25 / unit])


def test_what_could_not_be_verified_is_in_no_baseline_and_has_no_advantage():
    """Of 1, 0, ?, ? the mean is 1/2. Taken as 0, the two would make it 1/4 and be pushed away from."""
    group = group_of([1, 0, 0, 0])
    group = replace(group, completions=tuple(replace(c, verified=c.text < "2") for c in group.completions))
    assert np.array_equal(group_advantages([group], "none")[0], [0.5, -0.5, 0, 0])
    nothing = replace(group, completions=tuple(replace(c, verified=False) for c in group.completions))
    for scaling in SCALINGS:
        assert not group_advantages([nothing], scaling)[0].any()


def test_without_scaling_only_the_mean_is_taken_off():
    (advantages,) = group_advantages([group_of([1, 0, 0, 1, 1])], "none")
    assert advantages == pytest.approx([0.4, -0.6, -0.6, 0.4, 0.4])


def test_batch_scaling_uses_the_deviation_of_all_rewards():
    """Rewards 1, 0, 0, 0 over both groups: deviation 1/2; each group still has its own mean."""
    first, second = group_advantages([group_of([1, 0]), group_of([0, 0])], "batch")
    assert first == pytest.approx([0.5 / (0.5 + EPSILON), -0.5 / (0.5 + EPSILON)])
    assert second == pytest.approx([0, 0])


def test_group_scaling_does_not_look_at_other_groups():
    alone = group_advantages([group_of([1, 0, 0])])[0]
    among = group_advantages([group_of([1, 1, 1]), group_of([1, 0, 0]), group_of([0, 0, 0])])[1]
    assert np.array_equal(alone, among)


def test_partial_credit_counts_as_it_is():
    (advantages,) = group_advantages([group_of([0.0, 0.5, 1.0])])
    assert advantages == pytest.approx([-0.5 / (0.5 + EPSILON), 0, 0.5 / (0.5 + EPSILON)])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_negative_scale_shrinks_negative_advantages_only(scaling):
    groups = [group_of([1, 0, 0, 0]), group_of([1, 1, 0, 1])]
    for full, half in zip(group_advantages(groups, scaling), group_advantages(groups, scaling, 0.5), strict=True):
        assert half[full > 0] == pytest.approx(full[full > 0])
        assert half[full < 0] == pytest.approx(full[full < 0] / 2)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("size", [2, 3, 6, 8])
def test_equal_rewards_give_no_signal(scaling, reward, size):
    """Partial credit too: the mean of three times 0.1 is not 0.1 in floating point, and that is no signal."""
    advantages = group_advantages([group_of([reward] * size), group_of([1, 0])], scaling)
    assert not advantages[0].any()
    assert advantages[1].any()


def test_a_baseline_of_other_rewards_gives_mean_and_unit():
    """Own rewards 1, 0: mean 1/2, deviation sqrt(1/2)."""
    (advantages,) = group_advantages([group_of([1, 1], baseline=(1, 0))])
    assert advantages == pytest.approx([0.5 / (0.5**0.5 + EPSILON)] * 2)


def test_a_baseline_without_spread_leaves_advantages_unscaled():
    never, always = group_advantages([group_of([1, 1], baseline=(0, 0)), group_of([1, 1], baseline=(1, 1))])
    assert never == pytest.approx([1, 1])
    assert not always.any()


def test_no_groups_give_no_advantages():
    assert group_advantages([]) == []


def test_another_score_than_the_verifiers_and_none_at_all():
    """Scores 1, 0, none: mean 1/2, and the last completion moves nothing."""
    scores = {"0": 1.0, "1": 0.0, "2": None}
    (advantages,) = group_advantages([group_of([1, 1, 1])], "none", score=lambda made: scores[made.text])
    assert np.array_equal(advantages, [0.5, -0.5, 0])
    (advantages,) = group_advantages(
        [group_of([1, 1, 1], baseline=(0, 0, 0))], "none", score=lambda made: scores[made.text] and 4 - made.reward
    )
    assert np.array_equal(advantages, [3 - 2.0, 0 - 2.0, 0])  # of the baseline: 4, 0, none


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=2, max_size=9), min_size=1, max_size=4),
    st.sampled_from(SCALINGS),
)
def test_advantages_sum_to_zero_and_rank_as_the_rewards_do(rewards, scaling):
    for row, advantages in zip(rewards, group_advantages([group_of(r) for r in rewards], scaling), strict=True):
        assert advantages.sum() == pytest.approx(0, abs=1e-9)
        assert all((advantages[i] > 0) == row[i] for i in range(len(row)) if len(set(row)) == 2)
