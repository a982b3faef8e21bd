"""Several rewards move a step; what is right stays the verifier's word."""

from dataclasses import replace

import numpy as np
import pytest

from fedrlvr.config import GrpoSettings
from fedrlvr.learning.rollouts import rollout_metrics
from fedrlvr.types import Completion, Group, Problem

WEIGHTS = {"grpo__reward_weights": {"accuracy": 1.0, "format": 0.5}}


def made(reward: float, **more) -> Completion:
    return Completion((1, 2), None, "", reward, **more)


def test_metrics_of_several_rewards_by_hand():
    settings = GrpoSettings(reward_weights={"accuracy": 1.0, "format": 0.5})
    first = Group(Problem("p", "?", "1"), (made(1.0), made(0.0), made(0.0, answered=False), made(0.0, verified=False)))
    second = replace(first, completions=(made(1.0),) * 4)
    metrics = rollout_metrics([first, second], 0.0, settings)
    assert metrics["rewards/accuracy"] == pytest.approx(5 / 7)  # one was not verified
    assert metrics["rewards/format"] == pytest.approx(7 / 8)
    assert metrics["reward"] == pytest.approx((1.5 + 0.5 + 0 + 0.5 + 4 * 1.5) / 8)
    assert (metrics["live_groups"], metrics["frac_reward_zero_std"]) == (1.0, 0.5)
    assert first.num_correct == 1


def test_by_default_there_is_no_other_number_than_before():
    metrics = rollout_metrics([Group(Problem("p", "?", "1"), (made(1.0), made(0.0)))], 0.0, GrpoSettings())
    assert not [name for name in metrics if name.startswith("rewards/")]


def test_an_unanswered_completion_is_pushed_away_from_more_than_a_wrong_one(make_trainer, small_job):
    """All are wrong, so by the verifier alone there is no signal."""
    for changes, steps in (({}, 0), (WEIGHTS, 1)):
        trainer = make_trainer(small_job(grpo__scale_rewards="none", **changes))
        (group,), _ = trainer.rollouts.groups(trainer.problems.private[:1], 4, seed=0)
        wrong = [replace(c, reward=0.0, answered=number > 0) for number, c in enumerate(group.completions)]
        group = replace(group, completions=tuple(wrong))
        advantages = [row.advantage for row in trainer.step.rows([group])]
        assert advantages == ([-0.375, 0.125, 0.125, 0.125] if steps else [])
        assert trainer.step([group], np.random.default_rng(0))["optimizer_steps"] == steps


def test_sampled_completions_say_whether_there_is_an_answer(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__max_completion_length=5, **WEIGHTS))  # too few for any answer
    (group,), _ = trainer.rollouts.groups(trainer.problems.private[:1], 4, seed=0)
    assert [c.answered for c in group.completions] == [False] * 4
    assert group.num_correct == 0
    metrics = rollout_metrics([group], 0.0, trainer.job.grpo)
    assert (metrics["rewards/format"], metrics["completions/unanswered_ratio"]) == (0.0, 1.0)
