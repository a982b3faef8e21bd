"""What a step reports of its completions, counted by hand."""

import pytest

from fedrlvr.config import GrpoSettings
from fedrlvr.learning.rollouts import rollout_metrics
from fedrlvr.tasks.task import CUT_OFF
from fedrlvr.types import Completion, Group, Problem

PROBLEM = Problem("p", "?", "4")


def completion(reward: float, reason: str, length: int = 2, truncated: bool = False) -> Completion:
    verified = reason not in CUT_OFF
    return Completion((7,) * length, None, "", reward, truncated, reason=reason, verified=verified)


def test_verifications_that_were_ended_are_counted_whatever_ended_them():
    cut = [completion(0.0, reason) for reason in ("timeout", "memory", "died", "wrong", "no box")]
    right = [completion(1.0, "math-verify", length=4), completion(1.0, "exact", truncated=True)]
    metrics = rollout_metrics(
        [Group(PROBLEM, tuple(cut + right)), Group(PROBLEM, (right[0],) * 3)], 0.5, GrpoSettings()
    )
    assert metrics["verifier/timeouts"] == 3
    assert metrics["reward"] == pytest.approx(5 / 7)  # the other three are neither right nor wrong
    assert metrics["completions/unanswered_ratio"] == pytest.approx(1 / 10)
    assert (metrics["live_groups"], metrics["groups"], metrics["completions"]) == (1, 2, 10)
    assert metrics["completions/clipped_ratio"] == pytest.approx(1 / 10)
    assert metrics["num_tokens"] == 5 * 2 + 4 + 2 + 3 * 4
    assert metrics["frac_reward_zero_std"] == pytest.approx(1 / 2)


def test_a_group_that_differs_only_in_what_was_not_verified_is_not_live():
    group = Group(PROBLEM, (completion(1.0, "exact"), completion(0.0, "timeout"), completion(1.0, "exact")))
    assert rollout_metrics([group], 0.0, GrpoSettings())["live_groups"] == 0
    unverified = Group(PROBLEM, (completion(0.0, "timeout"),) * 2)
    metrics = rollout_metrics([unverified], 0.0, GrpoSettings())
    assert (metrics["reward"], metrics["reward_std"], metrics["live_groups"]) == (0.0, 0.0, 0.0)
