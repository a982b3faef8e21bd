"""The two accountants of DP-GRPO: each says no less than what is exactly known, and where one cannot say, the other
does."""

import math
import time

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from scipy.stats import norm

from fedrlvr.privacy import accountant
from fedrlvr.privacy.accountant import ExampleNoise, bounds, epsilon, gaussian_epsilon
from fedrlvr.protocol.refused import Refused


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("steps", [1, 10, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("mu", [1.0, 3.0])
def test_sampling_everybody_is_the_plain_gaussian_and_no_bound_says_less(mu, steps, delta):
    noise = math.sqrt(steps) / mu
    exact, found = gaussian_epsilon(mu, delta), bounds([ExampleNoise(1.0, noise, 1, steps)], delta)
    assert exact <= found["RDP"] <= 1.2 * exact
    if steps * 1e-15 <= delta / 100:
        assert exact <= found["PLD"] <= 1.01 * exact
    else:
        assert "PLD" not in found  # a convolution of so many steps is not exact enough for so small a delta


def exact_delta(epsilon: float, rate: float, noise: float) -> float:
    """Of one sampled step: without the problem its sum is N(0, noise^2), with it N(1, noise^2) at the sampling rate.
    Both directions count."""
    added = noise**2 * math.log(math.expm1(epsilon) / rate + 1) + 0.5  # where one density is e^epsilon times the other
    with_it = (1 - rate) * norm.sf(added / noise) + rate * norm.sf((added - 1) / noise)
    more = with_it - math.exp(epsilon) * norm.sf(added / noise)
    if math.exp(-epsilon) <= 1 - rate:  # the density with the problem never falls that low
        return more
    removed = noise**2 * math.log((math.exp(-epsilon) - (1 - rate)) / rate) + 0.5
    with_it = (1 - rate) * norm.cdf(removed / noise) + rate * norm.cdf((removed - 1) / noise)
    return max(more, norm.cdf(removed / noise) - math.exp(epsilon) * with_it)


@pytest.mark.parametrize("rate", [1e-3, 0.01, 0.3])
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_one_sampled_step_by_hand(rate, noise):
    found = bounds([ExampleNoise(rate, noise, 1, 1)], 1e-5)
    assert found["PLD"] <= found["RDP"]
    assert exact_delta(found["PLD"], rate, noise) <= 1e-5
    if (less := 0.99 * found["PLD"] - 1e-3) > 0:
        assert exact_delta(less, rate, noise) > 1e-5


def test_values_of_the_literature():
    """DP-SGD (arXiv 1607.00133, section 3.2): with rate 0.01, noise 4 and 10,000 steps the moments accountant says
    epsilon 1.26 at delta 1e-5."""
    found = bounds([ExampleNoise(0.01, 4.0, 1, 10_000)], 1e-5)
    assert 0.9 < found["PLD"] < found["RDP"] < 1.26
    # The preset demo-dp: 64 steps of 64 of 8,000 problems, noise 1.
    found = bounds([ExampleNoise(64 / 8000, 1.0, 1, 64)], 1e-5)
    assert (round(found["PLD"], 2), round(found["RDP"], 2)) == (0.5, 1.09)


@pytest.mark.parametrize("steps", [3, 500, 20_000])
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rate", [1e-3, 0.05])
def test_the_bound_lies_little_above_one_from_below(rate, noise, steps):
    found = bounds([ExampleNoise(rate, noise, 1, steps)], 1e-5)
    interval = max(1e-4, found["PLD"] / 10_000)
    below = from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        pessimistic_estimate=False,
        use_connect_dots=False,
        value_discretization_interval=interval,
    )
    least = below.self_compose(steps).get_epsilon_for_delta(1e-5)
    assert least <= found["PLD"] <= 1.02 * least + (steps + 1) * interval


def test_steps_of_several_kinds_are_accounted_for_by_renyi_alone():
    """It alone is known to hold where the later ones were chosen by what the first ones gave."""
    one, other = ExampleNoise(0.01, 1.0, 1, 10), ExampleNoise(0.01, 1.1, 1, 10)
    assert set(bounds([one, one], 1e-5)) == {"RDP", "PLD"}
    assert set(bounds([one, ExampleNoise(0.01, 1.1, 1, 0)], 1e-5)) == {"RDP", "PLD"}  # no step of the second kind
    both = bounds([one, other], 1e-5)
    assert set(both) == {"RDP"}
    assert epsilon([one, other], 1e-5) == both["RDP"]


@pytest.mark.parametrize(
    ("charge", "delta"),
    [
        (ExampleNoise(0.01, 1.0, 1, 64), 1e-14),  # rounding would count
        (ExampleNoise(0.01, 1.0, 1, 1_000_001), 1e-5),
        (ExampleNoise(0.01, 0.05, 1, 1_000_000), 1e-5),  # dp-accounting: OverflowError
    ],
)
def test_where_one_accountant_cannot_say_the_other_does(charge, delta):
    found = bounds([charge], delta)
    assert set(found) == {"RDP"}
    assert 0 < found["RDP"] < math.inf


@pytest.mark.parametrize("wrong", [math.nan, -1.0])
def test_a_divergence_that_is_none_is_refused(monkeypatch, wrong):
    """dp-accounting turns both into an epsilon of 0."""
    monkeypatch.setattr(accountant, "_renyi", lambda rate, noise: np.full(len(accountant.ORDERS), wrong))
    with pytest.raises(Refused, match="that is none"):
        epsilon([ExampleNoise(0.01, 1.0, 1, 1)], 1e-5)


def test_many_kinds_cost_little_the_second_time():
    charges = [ExampleNoise(0.01, 1.0 + i / 1000, 1, 5) for i in range(100)]
    seconds = []
    for _ in range(2):
        began = time.process_time()
        epsilon(charges, 1e-5)
        seconds.append(time.process_time() - began)
    assert seconds[1] < seconds[0] / 10
