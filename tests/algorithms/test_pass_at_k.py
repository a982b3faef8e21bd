"""pass@k against the enumeration of all draws."""

from __future__ import annotations

from itertools import combinations

import pytest

from fedrlvr.algorithms.pass_at_k import pass_at_k


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
