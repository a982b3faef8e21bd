"""pass@k against the enumeration of all draws, the interval of its mean, and scores by label worked out by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from fedrlvr.algorithms.scores import (
    ProblemResult,
    interval_of_few,
    merge_scores,
    overall,
    pass_at_1,
    pass_at_k,
    score_interval,
    scores_by_label,
    scores_with_intervals,
    wilson_interval,
)

RESULTS = [  # id, label, samples, correct, truncated, unanswered, timeouts, tokens, reward
    ProblemResult("a", "add", 4, 1, 2, 2, 0, 10.0, 0.5),
    ProblemResult("b", "add", 4, 0, 0, 3, 1, 20.0, 0.0),
    ProblemResult("c", "take", 4, 4, 0, 0, 0, 6.0, 1.0),
    ProblemResult("d", "", 4, 3, 1, 0, 2, 8.0, 0.75),
]


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


def test_wilson_by_hand():
    """With z2 = 3.8415. Two of two: centre (1 + z2/4) / (1 + z2/2) = 0.6712, as far from 1. Half of 100: centre 0.5,
    half-width sqrt(0.25 x 0.038415 + 0.038415^2 / 4) / 1.038415 = 0.0962."""
    assert wilson_interval(1.0, 2) == (pytest.approx(0.3424, abs=1e-4), 1.0)
    assert wilson_interval(0.5, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson_interval(0.0, 10)[0] == 0.0


@pytest.mark.parametrize(("correct", "count"), [(0, 5), (1, 7), (30, 40), (99, 100), (3, 3)])
def test_it_is_the_interval_of_scipy(correct, count):
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson_interval(correct / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("share", "problems"), [(0.3, 60), (0.9, 20), (0.5, 8)])
def test_the_interval_covers_the_true_mean_as_often_as_it_says(share, problems):
    """Four draws of each problem, whose own chance of a right answer is beta-distributed around the true mean."""
    random = np.random.default_rng(1)
    chances = random.beta(2 * share, 2 * (1 - share), (400, problems))
    rows = random.binomial(4, chances) / 4
    covered = sum(low <= share <= high for low, high in (score_interval(row, 4) for row in rows))
    assert covered >= 0.92 * 400


def test_the_interval_is_as_wide_as_the_normal_approximation_where_that_holds():
    values = np.random.default_rng(2).random(1000)
    low, high = score_interval(values, 1000)
    error = 1.96 * values.std() / 1000**0.5
    assert low == pytest.approx(values.mean() - error, abs=0.05 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.05 * error)


def test_two_problems_that_were_all_right_are_no_fact():
    """However often each was answered, they are two problems."""
    assert score_interval([1.0, 1.0], 50) == wilson_interval(1.0, 2)


def test_problems_that_all_score_the_same_are_known_by_all_their_draws():
    assert score_interval([0.25] * 7, 4) == wilson_interval(0.25, 28)


def test_scores_of_few_draws_have_an_interval():
    assert interval_of_few(0.5, problems=24, samples=4) == wilson_interval(0.5, 24)
    assert interval_of_few(0.5, problems=25, samples=4) is None


@pytest.fixture
def scores():
    return scores_with_intervals(RESULTS, [1, 2])


def test_scores_with_intervals_by_hand(scores):
    """pass@2 of 1 right in 4: 1 - C(3,2)/C(4,2) = 1/2; of 3 right in 4: 1. Of `a`, something was half right."""
    overall, add = scores["overall"], scores["add"]
    assert (overall["problems"], overall["right"], overall["reward"], overall["tokens"]) == (4, 8 / 16, 9 / 16, 11.0)
    assert (overall["truncated"], overall["unanswered"], overall["verifier/timeouts"]) == (3 / 16, 5 / 16, 3)
    assert overall["pass@1"]["mean"] == pytest.approx((1 / 4 + 0 + 1 + 3 / 4) / 4)
    assert overall["pass@2"]["mean"] == pytest.approx((1 / 2 + 0 + 1 + 1) / 4)
    assert (add["problems"], add["reward"], add["tokens"], add["truncated"]) == (2, 1 / 4, 15.0, 2 / 8)
    assert add["pass@1"]["mean"] == pytest.approx(1 / 8)
    assert add["pass@2"]["mean"] == pytest.approx(1 / 4)


def test_labels_are_sorted_after_overall_and_an_empty_label_is_left_out(scores):
    assert list(scores) == ["overall", "add", "take"]


def test_an_interval_holds_the_mean(scores):
    for part in scores.values():
        for k in ("pass@1", "pass@2"):
            assert 0 <= part[k]["low"] <= part[k]["mean"] <= part[k]["high"] <= 1


def test_one_problem_says_little(scores):
    assert scores["take"]["pass@1"]["low"] == pytest.approx(0.2065, abs=1e-4)  # Wilson's for one of one


def test_a_score_does_not_depend_on_other_labels_or_ks(scores):
    alone = scores_with_intervals(RESULTS[:2], [2])
    assert alone["add"]["pass@2"] == scores["add"]["pass@2"]
    assert scores_with_intervals(RESULTS, [1, 2]) == scores


def test_scores_by_label_by_hand():
    """pass@2 of 1 right in 4 is 1/2, of 3 or 4 right it is 1."""
    assert scores_by_label(RESULTS[::-1], [1, 2]) == {
        "": {"problems": 1, "pass@1": 3 / 4, "pass@2": 1.0},
        "add": {"problems": 2, "pass@1": 1 / 8, "pass@2": 1 / 4},
        "take": {"problems": 1, "pass@1": 1.0, "pass@2": 1.0},
    }
    assert list(scores_by_label(RESULTS[::-1], [1])) == ["", "add", "take"]
    assert scores_by_label([], [1]) == {}


def score(problems: int, pass_at_1: float, **more) -> dict:
    return {"problems": problems, "pass@1": pass_at_1} | more


def test_merged_means_are_weighted_by_the_number_of_problems():
    """A: (3 x 0.5 + 1 x 1.0) / 4 = 0.625; overall: (2.5 + 4 x 0.25) / 8 = 0.4375."""
    parts = [{"A": score(3, 0.5)}, {"A": score(1, 1.0), "B": score(4, 0.25)}]
    merged = merge_scores(parts)
    assert merged == {"overall": score(8, 0.4375), "A": score(4, 0.625), "B": score(4, 0.25)}
    assert list(merged) == ["overall", "A", "B"]
    assert parts == [{"A": score(3, 0.5)}, {"A": score(1, 1.0), "B": score(4, 0.25)}]


def test_every_k_is_merged_on_its_own():
    merged = merge_scores([{"A": score(1, 0.0, **{"pass@4": 1.0})}, {"B": score(3, 0.4, **{"pass@4": 0.6})}])
    assert merged["overall"] == {"problems": 4, "pass@1": pytest.approx(0.3), "pass@4": pytest.approx(0.7)}


def test_nothing_merges_to_nothing():
    assert merge_scores([]) == merge_scores([{}, {}]) == {}


def test_overall_is_over_all_labels_of_all_parts():
    """(3 x 0.5 + 1 x 1.0 + 4 x 0.25) / 8 = 0.4375."""
    parts = [{"A": score(3, 0.5)}, {"A": score(1, 1.0), "B": score(4, 0.25)}]
    assert overall(*parts) == score(8, 0.4375)
    assert overall(parts[1]) == score(5, 0.4)


def test_pass_at_1_of_each_label():
    assert pass_at_1({"A": score(3, 0.5, **{"pass@4": 1.0}), "B": score(4, 0.25)}) == {"A": 0.5, "B": 0.25}
