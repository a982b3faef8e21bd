"""pass@k against the enumeration of all draws, and the interval of its mean."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from fedrlvr.algorithms.pass_at_k import bootstrap_interval, pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_draws_that_hold_a_right_sample(n):
    for correct in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations(range(n), k))
            hits = sum(any(sample < correct for sample in draw) for draw in draws)
            assert pass_at_k(n, correct, k) == pytest.approx(hits / len(draws), abs=1e-12)


def test_pass_at_1_is_the_share_of_right_samples_however_many():
    assert pass_at_k(1000, 137, 1) == pytest.approx(0.137)


@pytest.mark.parametrize(("n", "correct", "k"), [(4, 2, 5), (4, 2, 0), (4, 2, -1), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_impossible_counts_are_refused(n, correct, k):
    with pytest.raises(ValueError, match=r"pass@|impossible"):
        pass_at_k(n, correct, k)


def interval(values, seed: int = 0, **settings) -> tuple[float, float]:
    return bootstrap_interval(values, np.random.default_rng(seed), **settings)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    """Of 200 samples of 60 coin flips at 0.3 about 190 intervals of 95% hold 0.3; the percentile bootstrap of a mean
    is known to fall a little short. At 50% it is about 100."""
    flips = (np.random.default_rng(1).random((200, 60)) < 0.3).astype(float)
    wide = sum(low <= 0.3 <= high for low, high in (interval(row) for row in flips))
    narrow = sum(low <= 0.3 <= high for low, high in (interval(row, level=0.5) for row in flips))
    assert 180 <= wide <= 198
    assert 75 <= narrow <= 130


def test_the_interval_is_as_wide_as_the_normal_approximation_where_that_holds():
    values = np.random.default_rng(2).random(1000)
    low, high = interval(values)
    error = 1.96 * values.std() / 1000**0.5
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_problems_that_all_score_the_same_leave_no_doubt():
    assert interval([0.25] * 7) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_problems_say_nothing(values):
    assert all(math.isnan(end) for end in interval(values))


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    values = [0.0, 1.0, 0.25, 0.5, 0.5]
    assert interval(values) == interval(tuple(values))
    assert interval(values) != interval(values, seed=1, resamples=20)
