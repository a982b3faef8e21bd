"""Entropies by hand, and the share of tokens that has the highest."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.algorithms.entropy import entropy_threshold, high_entropy_masks, token_entropies


def test_entropies_by_hand():
    """Even odds of two, of four, and three to one; a logit of -200 is no option, and no NaN."""
    logits = torch.tensor([[[0, 0, -200, -200], [5, 5, 5, 5], [math.log(3), 0, -200, -200]]])
    expected = [math.log(2), math.log(4), math.log(4) - 0.75 * math.log(3)]
    assert token_entropies(logits)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_temperature_divides_the_logits():
    """At temperature 2, odds of nine to one are odds of three to one."""
    found = token_entropies(torch.tensor([[[math.log(9), 0.0]]]), temperature=2.0)
    assert float(found) == pytest.approx(math.log(4) - 0.75 * math.log(3), abs=1e-6)


@given(
    st.lists(st.floats(0, 12, width=32), min_size=1, max_size=60),
    st.floats(0.001, 1.0) | st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9]),
)
def test_the_threshold_is_torchs_quantile(entropies, share):
    values = torch.tensor(entropies)
    assert float(entropy_threshold(values, share)) == float(torch.quantile(values, 1 - share))


def test_more_numbers_than_torchs_quantile_takes():
    values = torch.arange(2**24 + 2, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.75)
    assert float(entropy_threshold(values, 0.25)) == pytest.approx(0.75 * 2**24, rel=1e-6)


def test_the_share_is_of_all_tokens_and_those_at_the_threshold_are_in_it():
    """In the order 0.1 0.2 0.3 0.8 0.9, three quarters of the way is at 0.8."""
    assert high_entropy_masks([(0.9, 0.1), (0.3,), (0.8, 0.2)], 0.25) == [(True, False), (False,), (True, False)]
    assert high_entropy_masks([(0.5, 0.5), (0.5,)], 0.1) == [(True, True), (True,)]


def test_the_smallest_share_leaves_the_highest_token():
    assert high_entropy_masks([(0.1, 0.4), (0.3,)], 1e-9) == [(False, True), (False,)]
