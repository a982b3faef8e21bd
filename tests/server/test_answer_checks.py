"""A site's numbers must fit what it was asked for, by hand."""

import pytest

from fedrlvr.protocol.answers import ProposeAnswer
from fedrlvr.protocol.records import Envelope, Findings, PublicResponse, Segment, SiteScores, StepRecord
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.server.answer_checks import check_findings, check_proposal, check_scores, check_steps

HERE = Envelope.here("manifest", 0, 0)
LABELS = ["A", "A", "B", "C", "", "A", "B"]  # of seven test problems: blocks of 2, 2 and 3


def score(problems: float, *more: str) -> dict:
    return {"problems": problems, "pass@1": 0.5} | dict.fromkeys(more, 1.0)


def validated(share, test: dict, heldout: dict | None = None, samples: int = 1, ks=(1, 4)) -> None:
    request = ValidateRequest(envelope=HERE, samples=samples, share=share, name="base 0")
    check_scores(SiteScores(test=test, heldout=heldout), request, LABELS, ks)


@pytest.mark.parametrize(
    ("share", "test"),
    [
        ((0, 3), {"A": score(2)}),
        ((1, 3), {"B": score(1), "C": score(1)}),
        ((2, 3), {"": score(1), "A": score(1), "B": score(1)}),
        ((4, 10), {"B": score(1)}),  # of ten blocks three are empty
        ((0, 10), {}),
        (None, {"A": score(3), "B": score(2), "C": score(1), "": score(1)}),
    ],
)
def test_the_scores_of_a_share_fit_it(share, test):
    validated(share, test)


@pytest.mark.parametrize(
    ("share", "test", "said"),
    [
        ((0, 3), {"A": score(1e7)}, "of 10000000 problems with label 'A'; the site's share has 2"),
        ((0, 3), {"A": score(1)}, "of 1 problems with label 'A'; the site's share has 2"),
        ((0, 3), {}, "of 0 problems with label 'A'; the site's share has 2"),
        ((0, 3), {"A": score(2), "Z": score(1)}, "of 1 problems with label 'Z'; the site's share has 0"),
        ((1, 3), {"A": score(2)}, "of 2 problems with label 'A'; the site's share has 0"),
        ((0, 10), {"A": score(1)}, "the site's share has 0"),
        (None, {"A": score(3)}, "of 0 problems with label ''; the site's share has 1"),
    ],
)
def test_counts_that_do_not_fit_the_share(share, test, said):
    with pytest.raises(Refused, match=said):
        validated(share, test)


def test_a_sites_own_adapter_is_measured_on_a_part_with_every_label():
    request = ValidateRequest(envelope=HERE, samples=1, share=None, name="local 0", problems=3)
    check_scores(SiteScores(test={"": score(1), "A": score(1), "B": score(1)}), request, LABELS, (1,))
    with pytest.raises(Refused, match="of 3 problems with label 'A'; the site's share has 1"):
        check_scores(SiteScores(test={"": score(1), "A": score(3), "B": score(1)}), request, LABELS, (1,))


def test_the_scores_are_what_so_many_samples_allow():
    validated((0, 3), {"A": score(2, "pass@4")}, samples=4)
    for samples, test in ((1, score(2, "pass@4")), (4, score(2)), (4, score(2, "pass@4", "pass@8"))):
        with pytest.raises(Refused, match="a label's scores must be pass@1, "):
            validated((0, 3), {"A": test}, samples=samples)


def test_held_out_scores_are_of_any_problems_but_only_where_they_were_asked_for():
    validated((0, 3), {"A": score(2)}, heldout={"all": score(900)})
    with pytest.raises(Refused, match="a label's scores must be"):
        validated((0, 3), {"A": score(2)}, heldout={"all": score(900, "pass@2")})
    with pytest.raises(Refused, match="held-out problems, which were not asked for"):
        validated(None, {"A": score(3), "B": score(2), "C": score(1), "": score(1)}, heldout={"all": score(9)})


SEGMENTS = [Segment(4, 2, ("p1", "p2")), Segment(5, 1, ("p1", "p3", "p4"))]
TRAIN = TrainRequest(envelope=HERE, segments=SEGMENTS, exchange=True, begin_round=True, adapter_spec="ab")
RECEIVED = [("site-2", PublicResponse(f"p{i}", "#")) for i in (1, 3, 4)]
SWAP = SwapRequest(envelope=HERE, segment=SEGMENTS[1], responses=RECEIVED)
PLAIN = {"reward": 0.5, "live_groups": 1.0, "groups": 2.0, "completions": 8.0}  # two groups of four


def step(kind: str, segment: int, **changes) -> StepRecord:
    return StepRecord(kind=kind, segment=segment, metrics=PLAIN | changes)


@pytest.fixture
def train(job):
    return lambda *steps: check_steps(steps, TRAIN, job)


def test_the_steps_that_were_asked_for_or_some_of_them(train, job):
    """Two private steps and a public one, then a private one; the last public one is left to the swap."""
    train(step("private", 4), step("private", 4), step("public", 4), step("private", 5))
    train(step("public", 4))
    train()
    check_steps([step("public", 5)], SWAP, job)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([step("private", 4)] * 3, "3 private steps of segment 4, 2 were asked for"),
        ([step("public", 4)] * 2, "2 public steps of segment 4, 1 were asked for"),
        ([step("public", 5)], "1 public steps of segment 5, 0 were asked for"),
        ([step("private", 99_999)], "1 private steps of segment 99999, 0 were asked for"),
    ],
)
def test_steps_that_nobody_asked_for(train, steps, said):
    with pytest.raises(Refused, match=said):
        train(*steps)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("private", {"reward": 1.5}, "a private step's reward is 1.5, expected 0 to 1"),
        ("private", {"reward": -1e30}, "reward is -1e.30, expected 0 to 1"),
        ("private", {"groups": 5.0}, "groups is 5, expected 0 to 4"),  # grpo.prompts_per_step
        ("private", {"groups": -1.0, "live_groups": 0.0}, "groups is -1, expected 0 to 4"),
        ("public", {"groups": 3.0}, "a public step's groups is 3, expected 0 to 2"),
        ("private", {"live_groups": 3.0}, "live_groups is 3, expected 0 to 2"),
        ("private", {"completions": 9.0}, "completions is 9, expected 0 to 8"),
        ("private", {"num_tokens": 161.0}, "num_tokens is 161, expected 0 to 160"),  # of 20 at most each
        ("private", {"verifier/timeouts": 1e30}, "verifier/timeouts is 1e.30, expected 0 to 8"),
        ("public", {"swap/completions": 9.0}, "swap/completions is 9, expected 0 to 8"),
        ("public", {"swap/all_wrong_groups": 3.0}, "swap/all_wrong_groups is 3, expected 0 to 2"),
        ("public", {"swap/rescued_groups": 1.0}, "swap/rescued_groups is 1, expected 0 to 0"),
        ("public", {"swap/fraction": 2.0}, "swap/fraction is 2, expected 0 to 1"),
        ("private", {"frac_reward_zero_std": 2.0}, "frac_reward_zero_std is 2, expected 0 to 1"),
        ("private", {"completions/clipped_ratio": 2.0}, "completions/clipped_ratio is 2, expected 0 to 1"),
        ("private", {"completions/unanswered_ratio": 2.0}, "completions/unanswered_ratio is 2, expected 0 to 1"),
        ("public", {"exchange/wrong": 1.0}, "exchange/wrong is 1, expected 0 to 0"),  # nothing was sent
        ("public", {"exchange/received": 1.0}, "exchange/received is 1, expected 0 to 0"),
        ("public", {"exchange/unknown_prompt": 1.0}, "exchange/unknown_prompt is 1, expected 0 to 0"),
    ],
)
def test_numbers_that_a_step_cannot_have(train, kind, changes, said):
    with pytest.raises(Refused, match=said):
        train(step(kind, 4, **changes))


def test_rewards_are_within_what_their_weights_allow(small_job):
    """accuracy - 0.5 x repetition, whose values are -1 to 0: 0 to 1.5."""
    job = small_job(grpo__reward_weights={"accuracy": 1.0, "repetition": -0.5})
    check_steps(
        [step("private", 4, **{"reward": 1.5, "rewards/repetition": -1.0, "rewards/accuracy": 1.0})], TRAIN, job
    )
    for name, value, limits in (
        ("reward", 1.6, "0 to 1.5"),
        ("reward", -0.1, "0 to 1.5"),
        ("rewards/repetition", 0.1, "-1 to 0"),
        ("rewards/accuracy", 1.1, "0 to 1"),
    ):
        with pytest.raises(Refused, match=f"{name} is {value:g}, expected {limits}"):
            check_steps([step("private", 4, **{name: value})], TRAIN, job)


def test_a_swap_rejects_no_more_answers_than_it_was_sent(job):
    def swapped(wrong: float, unknown: float) -> None:
        told = {"exchange/received": 3.0, "exchange/wrong": wrong, "exchange/unknown_prompt": unknown}
        check_steps([step("public", 5, **told)], SWAP, job)

    swapped(2.0, 1.0)
    with pytest.raises(Refused, match="exchange/wrong is 3, expected 0 to 2"):
        swapped(3.0, 1.0)


def test_a_poisson_sample_may_be_larger_than_expected_but_not_boundless(small_job):
    job = small_job(privacy__mode="dp_grpo", grpo__loss_type="dr_grpo", grpo__num_minibatches=1)
    check_steps([step("private", 4, groups=12.0, completions=48.0)], TRAIN, job)
    with pytest.raises(Refused, match="groups is 141, expected 0 to 140"):
        check_steps([step("private", 4, groups=141.0)], TRAIN, job)


MATCHING, RATIO = {"swap__rule": "match_global"}, {"swap__off_policy": "ratio"}
ASKED = ProposeRequest(envelope=HERE, segment=Segment(0, 1, ("p1", "p2")))


def offered(*responses: PublicResponse, **shares: float) -> ProposeAnswer:
    return ProposeAnswer(envelope=HERE, responses=list(responses), shares=shares or None)


WIDER = ProposeRequest(envelope=HERE, segment=Segment(0, 1, ("p1", "p2")), wanted=["p7"])


def test_where_problems_are_wanted_answers_are_to_these(small_job):
    check_proposal(offered(PublicResponse("p7", "#1")), WIDER, small_job(exchange__schedule="adaptive"))
    with pytest.raises(Refused, match="problem 'p1', which was not asked"):
        check_proposal(offered(PublicResponse("p1", "#1")), WIDER, small_job(exchange__schedule="adaptive"))
    with pytest.raises(Refused, match="5 responses, at most 4 are allowed"):
        check_proposal(offered(*[PublicResponse("p7", f"#{i}") for i in range(5)]), WIDER, small_job())


def test_findings_are_of_public_problems_and_only_where_they_are_asked_for(small_job):
    adaptive = small_job(exchange__schedule="adaptive")
    check_findings(None, {"p1"}, small_job())
    check_findings(None, {"p1"}, adaptive)  # a site may keep them
    check_findings(Findings(found=["p1"], unsolved=["p2"]), {"p1", "p2"}, adaptive)
    with pytest.raises(Refused, match="findings, which were not asked for"):
        check_findings(Findings(found=[], unsolved=[]), {"p1"}, small_job())
    for wrong in (Findings(found=["p3"], unsolved=[]), Findings(found=[], unsolved=["p1", "p3"])):
        with pytest.raises(Refused, match="a finding of problem 'p3', which there is not"):
            check_findings(wrong, {"p1", "p2"}, adaptive)


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        (offered(), {}),
        (offered(*[PublicResponse("p2", f"#{i}") for i in range(8)]), {}),
        (offered(), MATCHING),  # a site may keep its shares
        (offered(p1=1.0), MATCHING),
        (offered(p1=0.0, p2=0.5), MATCHING),
        (offered(PublicResponse("p1", "#1", 0, (-0.5,))), RATIO),
        (offered(PublicResponse("p1", "#1", 0, (0.0,) * 20)), RATIO),
    ],
)
def test_a_proposal_that_fits(small_job, answer, changes):
    check_proposal(answer, ASKED, small_job(**changes))


@pytest.mark.parametrize(
    ("answer", "changes", "said"),
    [
        (offered(PublicResponse("p3", "#1")), {}, "a response to problem 'p3', which was not asked"),
        (offered(*[PublicResponse("p1", f"#{i}") for i in range(9)]), {}, "9 responses, at most 8 are allowed"),
        (offered(p1=0.5), {}, "shares of right completions, which were not asked for"),
        (offered(p1=0.5), MATCHING | {"method": "replace-all"}, "which were not asked for"),
        (offered(p1=0.5, p3=0.5), MATCHING, "a share of problem 'p3', which was not asked"),
        (offered(PublicResponse("p1", "#1", 0, (-0.5,))), {}, "with 1 log-probabilities, expected 0 to 0"),
        (offered(PublicResponse("p1", "#1")), RATIO, "with 0 log-probabilities, expected 1 to 20"),
        (offered(PublicResponse("p1", "#1", 0, (0.0,) * 21)), RATIO, "with 21 log-probabilities, expected 1 to 20"),
    ],
)
def test_a_proposal_that_does_not_fit(small_job, answer, changes, said):
    with pytest.raises(Refused, match=said):
        check_proposal(answer, ASKED, small_job(**changes))
