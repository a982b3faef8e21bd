"""Intervals of means, by hand."""

import pytest

from fedrlvr.report.means import Mean


def test_of_three():
    """Mean 0.5, deviation 0.1, t = 4.303: half-width 4.303 x 0.1 / sqrt 3 = 0.248."""
    mean = Mean.of([0.4, 0.5, 0.6])
    assert (str(mean), mean.count) == ("0.50 ± 0.25", 3)
    assert mean.half == pytest.approx(0.2484, abs=1e-4)


def test_of_eleven():
    """0 to 10: mean 5, deviation sqrt(11), so the half-width is the quantile itself: t = 2.228 of 10 degrees."""
    assert str(Mean.of(range(11))) == "5.00 ± 2.23"


@pytest.mark.parametrize(
    ("values", "text"), [([0.25], "0.25"), ([0.5] * 20, "0.50 ± 0.00"), ([0.4, 0.6], "0.50 ± 1.27")]
)
def test_of_other_counts(values, text):
    assert str(Mean.of(values)) == text
