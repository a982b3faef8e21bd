"""pass@k of a policy on problems, by label."""

from __future__ import annotations

from collections.abc import Sequence

from fedrlvr.algorithms.pass_at_k import pass_at_k
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.types import Problem

Scores = dict  # label -> {"problems": n, "pass@k": mean over those n, ...}


def evaluate(rollouts: Rollouts, problems: Sequence[Problem], samples: int, ks: Sequence[int], seed: int) -> Scores:
    """Sample each problem `samples` times; unbiased pass@k for the `ks` that this many samples allow."""
    ks = [k for k in ks if k <= samples]
    groups, _ = rollouts.groups(problems, samples, seed)
    scores: Scores = {}
    for label in sorted({problem.label for problem in problems}):
        counts = [group.num_correct for group in groups if group.problem.label == label]
        scores[label] = {"problems": len(counts)} | {
            f"pass@{k}": sum(pass_at_k(samples, c, k) for c in counts) / len(counts) for k in ks
        }
    return scores
