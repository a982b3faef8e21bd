"""Which of a site's numbers may leave: those of its steps, and the scores of its evaluations."""

from collections.abc import Sequence

from fedrlvr.algorithms.scores import overall
from fedrlvr.privacy.policy import MetricRules
from fedrlvr.protocol.records import SiteScores, StepRecord

Dropped = dict[str, int]  # rule -> how many records or labels it took out


def allowed_steps(steps: Sequence[StepRecord], rules: MetricRules) -> tuple[list[StepRecord], Dropped]:
    kept = [step for step in steps if rules.private_steps or step.kind != "private"]
    return kept, {"private_steps": len(steps) - len(kept)}


def allowed_scores(scores: SiteScores, rules: MetricRules) -> tuple[SiteScores, Dropped]:
    told = heldout = scores.heldout or {}
    if rules.heldout == "none":
        told = {}
    elif rules.heldout == "overall" and heldout:
        told = {"all": overall(heldout)}
    return SiteScores(test=scores.test, heldout=told or None), {"heldout": len(heldout) - len(told)}
