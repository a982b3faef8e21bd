"""Rewards by hand, against TRL's own functions, and their sum against TRL's expression."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from fedrlvr.algorithms.rewards import REWARDS, reward_limits, total_reward
from fedrlvr.config import GrpoSettings
from fedrlvr.config.learning import RewardName
from fedrlvr.types import Completion


def settings(weights: dict[str, float] | None = None, **more) -> GrpoSettings:
    weights = {"reward_weights": weights} if weights else {}
    return GrpoSettings(max_completion_length=20, soft_punish_cache=8, **weights, **more)


def made(token_ids=(1, 2, 3), reward: float = 1.0, **more) -> Completion:
    return Completion(tuple(token_ids), None, "", reward, **more)


def test_every_reward_that_a_job_may_name_is_there():
    assert set(REWARDS) == {*get_args(RewardName)}


def test_by_default_the_verifiers_word_is_the_reward():
    assert total_reward(made(reward=0.5), GrpoSettings()) == 0.5
    assert total_reward(made(verified=False), GrpoSettings()) is None
    assert reward_limits(GrpoSettings())["reward"] == pytest.approx((0.0, 1.0))


def test_an_answer_that_can_be_judged_has_the_format():
    both = settings({"format": 1.0})
    assert total_reward(made(reward=0.0), both) == 1.0
    assert total_reward(made(reward=0.0, answered=False), both) == 0.0


@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 16, 20, 25])
def test_soft_overlong_is_trls(length):
    (expected,) = get_soft_overlong_punishment(20, 8)([[1] * length])
    assert REWARDS["soft_overlong"].of(made([1] * length), settings()) == pytest.approx(expected)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_repetition_is_trls(ids):
    (expected,) = get_repetition_penalty_reward()([ids])
    assert REWARDS["repetition"].of(made(ids), settings()) == pytest.approx(expected)


def test_repetition_by_hand():
    """Of the four trigrams 121, 212, 121, 212 two were said before."""
    assert REWARDS["repetition"].of(made([1, 2, 1, 2, 1, 2]), settings()) == -0.5


def test_the_weighted_sum_by_hand_and_what_says_nothing_is_left_out():
    weights = settings({"accuracy": 2.0, "format": 0.5, "soft_overlong": 1.0})
    long = made(range(16), reward=1.0)  # 4 of the last 8 tokens
    assert total_reward(long, weights) == 2.0 + 0.5 - 0.5
    assert total_reward(replace(long, verified=False), weights) == 0.5 - 0.5


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.booleans(), st.lists(st.integers(0, 2), max_size=25)), max_size=6
    ),
    st.tuples(*[st.floats(-3, 3)] * 4),
)
def test_the_sum_is_trls_nansum_within_its_limits(rows, numbers):
    weights = settings(dict(zip(REWARDS, numbers, strict=True)))
    completions = [made(ids, reward, verified=v, answered=a) for reward, v, a, ids in rows]
    values = [[REWARDS[name].of(c, weights) for name in REWARDS] for c in completions]
    table = torch.tensor(
        [[float("nan") if v is None else v for v in row] for row in values], dtype=torch.float64
    ).reshape(len(rows), 4)
    expected = (table * torch.tensor(numbers, dtype=torch.float64)).nansum(dim=1)
    totals = [total_reward(c, weights) for c in completions]
    assert totals == pytest.approx(expected.tolist())
    limits = reward_limits(weights)
    assert all(limits["reward"][0] <= total <= limits["reward"][1] for total in totals)
    for row in values:
        for name, value in zip(REWARDS, row, strict=True):
            assert value is None or limits[f"rewards/{name}"][0] <= value <= limits[f"rewards/{name}"][1]


def test_the_limits_by_hand():
    weights = settings({"accuracy": 1.0, "repetition": 0.5, "format": -2.0})
    assert reward_limits(weights)["reward"] == pytest.approx((-2.5, 1.0))
