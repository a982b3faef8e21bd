"""Which numbers leave."""

from fedrlvr.privacy.answers import allowed_scores, allowed_steps
from fedrlvr.privacy.policy import MetricRules
from fedrlvr.protocol.records import SiteScores, StepRecord

NUMBERS = {"reward": 0.25, "live_groups": 1.0, "groups": 2.0}
PRIVATE, PUBLIC = (StepRecord.of(kind, 0, NUMBERS) for kind in ("private", "public"))
TEST = {"A": {"problems": 4.0, "pass@1": 0.5}}
HELDOUT = {
    "gout": {"problems": 1.0, "pass@1": 1.0, "pass@4": 1.0},
    "scurvy": {"problems": 3.0, "pass@1": 0.0, "pass@4": 0.5},
}
SCORES = SiteScores(test=TEST, heldout=HELDOUT)


def test_numbers_of_private_steps_stay_where_the_policy_says_so():
    steps = [PRIVATE, PUBLIC, PRIVATE]
    assert allowed_steps(steps, MetricRules()) == (steps, {"private_steps": 0})
    assert allowed_steps(steps, MetricRules(private_steps=False)) == ([PUBLIC], {"private_steps": 2})


def test_held_out_scores_by_label_overall_or_not_at_all():
    assert allowed_scores(SCORES, MetricRules()) == (SCORES, {"heldout": 0})
    allowed, dropped = allowed_scores(SCORES, MetricRules(heldout="overall"))
    # 1 problem solved of 4; pass@4 is (1 x 1.0 + 3 x 0.5) / 4.
    assert allowed.heldout == {"all": {"problems": 4.0, "pass@1": 0.25, "pass@4": 0.625}}
    assert dropped == {"heldout": 1}
    allowed, dropped = allowed_scores(SCORES, MetricRules(heldout="none"))
    assert allowed == SiteScores(test=TEST)
    assert dropped == {"heldout": 2}
    assert SCORES.heldout == HELDOUT  # the site's own copy is as it was


def test_scores_of_few_held_out_problems_stay():
    allowed, dropped = allowed_scores(SCORES, MetricRules(min_heldout=2))
    assert (allowed.heldout, dropped) == ({"scurvy": HELDOUT["scurvy"]}, {"heldout": 1})
    overall = {least: allowed_scores(SCORES, MetricRules(heldout="overall", min_heldout=least)) for least in (4, 5)}
    assert overall[4][0].heldout["all"]["problems"] == 4.0
    assert overall[5] == (SiteScores(test=TEST), {"heldout": 2})
