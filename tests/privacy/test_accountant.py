"""What releases cost, against dp-accounting and against hand-made values."""

import math
import sys

import pytest
from dp_accounting import gaussian_mechanism as theirs
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise, epsilon, gaussian_epsilon, log_gaussian_delta
from fedrlvr.protocol.refused import Refused

MULTIPLIERS = st.floats(0.3, 50)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-8, 1e-10])


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8, 1e-10])
@pytest.mark.parametrize("rounds", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("multiplier", [0.3, 0.5, 1.0, 2.0, 5.0, 20.0, 50.0])
def test_as_dp_accountings_exact_gaussian(multiplier, rounds, delta):
    ours = epsilon([SiteNoise(multiplier, rounds)], delta)
    expected = theirs.get_epsilon_gaussian(multiplier / math.sqrt(rounds), delta, tol=1e-14)
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_delta_by_hand():
    # mu = 1, epsilon = 0: Phi(1/2) - Phi(-1/2), the total variation of N(0, 1) and N(1, 1).
    assert math.exp(log_gaussian_delta(1.0, 0.0)) == pytest.approx(math.erf(0.5 / math.sqrt(2)), rel=1e-12)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-9, 1e-5) == 0.0
    # For mu far above all: epsilon ~ mu^2/2 + mu z with Phi(-z) = delta.
    assert gaussian_epsilon(1000.0, 1e-5) == pytest.approx(500_000 + 1000 * 4.2649, rel=1e-4)


@given(MULTIPLIERS, st.integers(1, 500), DELTAS)
def test_the_epsilon_has_its_delta(multiplier, releases, delta):
    mu = math.sqrt(releases) / multiplier
    found = gaussian_epsilon(mu, delta)
    if found > 0:
        assert math.exp(log_gaussian_delta(mu, found)) == pytest.approx(delta, rel=1e-6)
    else:
        assert math.exp(log_gaussian_delta(mu, 0.0)) <= delta


@given(MULTIPLIERS, st.integers(1, 200), DELTAS)
def test_more_releases_cost_more_and_more_noise_less(multiplier, releases, delta):
    cost = epsilon([SiteNoise(multiplier, releases)], delta)
    assert epsilon([SiteNoise(multiplier, releases + 1)], delta) >= cost
    assert epsilon([SiteNoise(multiplier * 1.1, releases)], delta) <= cost
    assert epsilon([SiteNoise(multiplier)] * releases, delta) == pytest.approx(cost, rel=1e-9, abs=1e-12)
    once = epsilon([SiteNoise(multiplier / math.sqrt(releases))], delta)
    assert once == pytest.approx(cost, rel=1e-9, abs=1e-12)


def test_nothing_spent_costs_nothing():
    assert epsilon([], 1e-5) == 0.0


def test_sampling_everybody_is_the_plain_gaussian_and_renyi_never_says_less():
    exact = gaussian_epsilon(math.sqrt(10) / 2.0, 1e-5)
    sampled = epsilon([ExampleNoise(1.0, 2.0, 1, 10)], 1e-5)
    assert exact <= sampled <= 1.1 * exact


def test_iterations_on_one_sample_are_one_gaussian_on_it():
    steps = [ExampleNoise(0.1, 2.0, 4, 50)]
    assert epsilon(steps, 1e-5) == pytest.approx(epsilon([ExampleNoise(0.1, 1.0, 1, 50)], 1e-5))
    # Each on a sample of its own would be cheaper, and they are not.
    assert epsilon(steps, 1e-5) > epsilon([ExampleNoise(0.1, 2.0, 1, 200)], 1e-5)


def test_sampled_steps_add_up_and_sampling_less_costs_less():
    one, both = ExampleNoise(0.05, 1.0, 1, 30), [ExampleNoise(0.05, 1.0, 1, 30), ExampleNoise(0.05, 1.0, 1, 70)]
    assert epsilon(both, 1e-5) == pytest.approx(epsilon([ExampleNoise(0.05, 1.0, 1, 100)], 1e-5))
    assert epsilon([one], 1e-5) < epsilon([ExampleNoise(0.1, 1.0, 1, 30)], 1e-5)
    assert epsilon([ExampleNoise(0.05, 1.0, 1, 0)], 1e-5) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "charge",
    [
        ExampleNoise(0.01, 1e-160, 1, 10**6),  # dp-accounting alone: epsilon 0, for ever
        ExampleNoise(0.01, 1.0, 10**6, 1),  # the same by way of the iterations
        ExampleNoise(0.01, 1e9, 1, 1),
        SiteNoise(1e-200),
        SiteNoise(float("nan")),
    ],
)
def test_noise_that_the_series_cannot_take_is_refused_alone_and_among_others(charge):
    for charges in ([charge], [type(charge)(*((0.01, 1.0, 1, 1) if type(charge) is ExampleNoise else (1.0,))), charge]):
        with pytest.raises(Refused, match="cannot be accounted for"):
            epsilon(charges, 1e-5)


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3])
def test_within_the_bounds_more_noise_never_costs_more(rate):
    costs = [epsilon([ExampleNoise(rate, noise, 1, 1000)], 1e-5) for noise in (0.05, 0.1, 0.3, 1.0, 3.0, 30.0, 1000.0)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 500


def test_a_thousand_equal_charges_are_one():
    many = epsilon([ExampleNoise(0.05, 1.0, 1, 2)] * 1000, 1e-5)
    assert many == epsilon([ExampleNoise(0.05, 1.0, 1, 2000)], 1e-5)


def test_units_do_not_mix():
    with pytest.raises(ValueError, match="different units"):
        epsilon([SiteNoise(1.0), ExampleNoise(0.1, 1.0, 1, 1)], 1e-5)


def test_without_the_extra_dp_grpo_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)  # as if it were not installed
    with pytest.raises(Refused, match=r"pip install dp-accounting"):
        epsilon([ExampleNoise(0.1, 1.0, 1, 1)], 1e-5)
    assert epsilon([SiteNoise(1.0)], 1e-5) > 0
