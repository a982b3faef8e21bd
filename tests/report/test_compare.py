"""The comparison's arithmetic, by hand."""

import pytest

from fedrlvr.report.compare import comparison, mean_and_interval


def run(method, seed, value, finished=True):
    return {"method": method, "seed": seed, "finished": finished, "final": {"test": {"overall": {"pass@1": value}}}}


def test_mean_and_interval_of_three():
    """Mean 0.5, deviation 0.1, t = 4.303: half-width 4.303 x 0.1 / sqrt 3 = 0.248."""
    assert mean_and_interval([0.4, 0.5, 0.6]) == "0.50 ± 0.25"


def test_mean_and_interval_of_eleven():
    """0 to 10: mean 5, deviation sqrt(11), so the half-width is the quantile itself: t = 2.228 of 10 degrees."""
    assert mean_and_interval(range(11)) == "5.00 ± 2.23"


@pytest.mark.parametrize(
    ("values", "text"), [([0.25], "0.25"), ([0.5] * 20, "0.50 ± 0.00"), ([0.4, 0.6], "0.50 ± 1.27")]
)
def test_mean_and_interval_of_other_counts(values, text):
    assert mean_and_interval(values) == text


def test_differences_are_paired_by_seed():
    """Both vary a lot and in step: the paired difference is 0.2 exactly."""
    runs = [run("pubswap", 1, 0.9), run("pubswap", 2, 0.5), run("fedavg", 1, 0.7), run("fedavg", 2, 0.3)]
    assert comparison(runs).splitlines()[2:] == [
        "| `pubswap` | 0.90 | 0.50 | 0.70 ± 2.54 |  |",
        "| `fedavg` | 0.70 | 0.30 | 0.50 ± 2.54 | 0.20 ± 0.00 |",
    ]


def test_runs_that_did_not_finish_do_not_count_and_missing_seeds_stay_empty():
    runs = [run("pubswap", 1, 0.9), run("local", 2, 0.2), run("local", 3, 0.9, finished=False)]
    head, _, first, second = comparison(runs).splitlines()
    assert head == "| method | seed 1 | seed 2 | mean | pubswap ahead by |"
    assert first == "| `pubswap` | 0.90 |  | 0.90 |  |"
    assert second == "| `local` |  | 0.20 | 0.20 |  |"
