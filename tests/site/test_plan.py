"""What a server may ask of a site: all that the real rounds ask, and nothing else."""

from dataclasses import dataclass

import pytest
from tests.runs import some_spec

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.algorithms.methods import METHODS, asks_findings
from fedrlvr.algorithms.schedule import plan_round, planned_evaluations
from fedrlvr.config import EvaluationSettings
from fedrlvr.protocol.answers import Failure, ProposeAnswer, Reply, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, Findings, PublicResponse, Segment, SiteScores
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import (
    ProposeRequest,
    SubmitRequest,
    SwapRequest,
    TrainRequest,
    ValidateRequest,
    places_to_measure,
)
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.server.client_manager import ClientManager, Patience, RealTime
from fedrlvr.server.event_log import EventLog
from fedrlvr.server.round_store import CompletedRound, RoundStore
from fedrlvr.server.rounds import Rounds
from fedrlvr.site.plan import SitePlan

OWN = EvaluationSettings().own_problems
SHAPES = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
IDS = tuple(f"public-{i}" for i in range(8))


@dataclass
class Answered:
    answer: Reply
    fetched: bool = True
    ended: str = "answered"
    site_died: bool = False

    def reply(self) -> Reply:
        return self.answer


class Sites(RealTime):
    """Sites that admit by their plan, and answer at once."""

    sites, aborted = ("site-1", "site-2"), False

    def __init__(self, spec: RunSpec):
        self.plans = {site: SitePlan(spec) for site in self.sites}
        self.adaptive, self.proposed = asks_findings(spec.job), 0
        self.labels, self.measured, self.adapters, self.blind = spec.test_labels, 0, [], set()

    def send(self, site, message, timeout, changed) -> Answered:
        request = message.request
        self.plans[site].admit(request, message.adapter is not None)
        self.proposed += request.task == "propose"
        if message.adapter is not None:
            self.adapters.append((request.task, request.envelope.round, site))
        here = {"envelope": request.envelope}
        match request:
            case TrainRequest() | SwapRequest():
                findings = Findings(found=[IDS[0]], unsolved=list(IDS[1:])) if self.adaptive else None
                if findings and site == "site-2":
                    findings = Findings(found=[IDS[1 + request.envelope.segment % 7]], unsolved=[])
                return Answered((StepsAnswer(**here, steps=[], findings=findings), None))
            case ProposeRequest():
                response = PublicResponse(min(request.asked), f"of {site}")
                return Answered((ProposeAnswer(**here, responses=[response]), None))
            case SubmitRequest():
                return Answered((SubmitAnswer(**here), initial_adapter(SHAPES, 1)))
        if site in self.blind and request.name.startswith("global"):
            return Answered((Failure.of("out of memory"), None))
        self.measured += site == "site-1"
        count = len(places_to_measure(self.labels, request.share, request.problems))
        scores = SiteScores(test={"A": {"problems": float(count), "pass@1": 0.5}})
        about = {"adapter_spec": SHAPES, "base_model": "0123456789abcdef"}
        return Answered((ValidateAnswer(**here, scores=scores, **about), None))

    def is_gone(self, site) -> bool:
        return False


def spec(job, **more) -> RunSpec:
    return some_spec(job, public_ids=IDS, test_labels=("A",) * 8, **more)


def run(folder, spec: RunSpec, kept: CompletedRound | None = None, blind=()) -> Sites:
    """The real rounds; the `blind` sites cannot measure the averaged adapter."""
    sites, failures = Sites(spec), []
    sites.blind = set(blind)
    manager = ClientManager(
        sites, 1, Patience(10, 10, 10), lambda event, **told: failures.append(told) if event == "failure" else None
    )
    store = RoundStore(folder / "state", spec.run, "identity")
    Rounds(spec, manager, EventLog(folder / "job"), store, folder / "job").run(kept)
    assert {failure["site"] for failure in failures} == sites.blind
    return sites


JOBS = [
    {},
    {"federation__segments_per_round": 6, "exchange__schedule": (0, 3, 7, 11), "evaluation__every_segments": 2},
    {"federation__segments_per_round": 5, "federation__segments_per_task": 3, "evaluation__curve_samples": 3},
    {"evaluation__every_segments": 1, "evaluation__own_problems": 3},
    {"federation__pace": "own", "federation__segments_per_round": 4, "evaluation__every_segments": 2},
    {"exchange__schedule": "adaptive", "federation__segments_per_round": 4, "federation__segments_per_task": 3},
]


@pytest.mark.parametrize("changes", JOBS)
@pytest.mark.parametrize("method", METHODS)
def test_all_that_the_real_rounds_ask_is_in_the_plan(tmp_path, small_job, method, changes):
    job = small_job(method=method, federation__rounds=2, evaluation__samples=2, **changes)
    whole = run(tmp_path / "whole", spec(job))
    assert whole.measured == planned_evaluations(job)
    rest = CompletedRound(0, initial_adapter(SHAPES, 2), tmp_path / "whole" / "job" / "metrics.jsonl", [], {})
    run(tmp_path / "rest", spec(job, resume=True), kept=rest)


@pytest.mark.parametrize(
    ("changes", "exchanges"),
    [
        ({}, 3),  # in each round at every segment but the first, of which nothing is known
        ({"exchange__most_exchanges": 1}, 1),
        ({"exchange__worth": 1 / 16}, 3),  # one of 2 sites x 8 problems
        ({"exchange__worth": 0.07}, 0),
    ],
)
def test_an_adaptive_schedule_exchanges_while_it_pays(tmp_path, small_job, changes, exchanges):
    rounds = {"federation__rounds": 2, "federation__segments_per_round": 4}
    job = small_job(**{"exchange__schedule": "adaptive", "exchange__worth": 0.05} | rounds | changes)
    assert run(tmp_path, spec(job)).proposed == 2 * exchanges * 2


@pytest.mark.parametrize("blind", ["", "site-2"])
def test_an_averaged_adapter_goes_once_to_a_site_that_measured_it(tmp_path, small_job, blind):
    """A site that could not is sent it again to begin the next round from."""
    job = small_job(federation__rounds=3, evaluation__samples=2)
    sites = run(tmp_path, spec(job), blind=[blind] if blind else ())
    every_round = [(number, site) for number in range(3) for site in sites.sites]
    assert [where[1:] for where in sites.adapters if where[0] == "validate"] == every_round
    again = [(1, blind), (2, blind)] if blind else []
    assert [where[1:] for where in sites.adapters if where[0] == "train"] == [(0, "site-1"), (0, "site-2"), *again]


def test_a_run_that_goes_on_sends_the_kept_adapter_once(tmp_path, small_job):
    job = small_job(federation__rounds=2, evaluation__samples=2)
    run(tmp_path / "whole", spec(job))
    kept = CompletedRound(0, initial_adapter(SHAPES, 2), tmp_path / "whole" / "job" / "metrics.jsonl", [], {})
    sites = run(tmp_path / "rest", spec(job, resume=True), kept=kept)
    assert [where[0] for where in sites.adapters] == ["validate"] * 4


HERE = Envelope.here("hash", 0, 0)


@pytest.fixture
def plan(small_job) -> SitePlan:
    """Two rounds of two segments, with an exchange at each."""
    return SitePlan(spec(small_job(federation__rounds=2, evaluation__samples=2)))


def train(plan: SitePlan, number: int, phase: int, **changes) -> TrainRequest:
    planned = plan_round(plan._spec.job, number, list(IDS))[phase]
    values = {
        "envelope": HERE.model_copy(update={"round": number, "segment": planned.last.index}),
        "segments": list(planned.segments),
        "exchange": planned.exchange,
        "begin_round": phase == 0,
        "adapter_spec": "ab",
    }
    return TrainRequest(**values | changes)


def at(number: int, segment: int) -> Envelope:
    return HERE.model_copy(update={"round": number, "segment": segment})


def measure(number: int, segment: int, name: str, samples=2, share=(0, 2), problems: int | None = OWN):
    problems = problems if share is None else None
    return ValidateRequest(envelope=at(number, segment), samples=samples, share=share, name=name, problems=problems)


def test_each_thing_is_done_once_and_none_late(plan):
    first = train(plan, 0, 0)
    plan.admit(first, True)
    with pytest.raises(Refused, match=r"^train of round 0, segment 0, was asked for already"):
        plan.admit(first, True)
    plan.admit(train(plan, 0, 1), False)
    with pytest.raises(Refused, match="was asked for already, or something that comes after it"):
        plan.admit(ProposeRequest(envelope=at(0, 0), segment=first.segments[0]), False)
    plan.admit(SubmitRequest(envelope=at(0, 1)), False)
    with pytest.raises(Refused, match=r"^submit of round 0, segment 1, was asked for already"):
        plan.admit(SubmitRequest(envelope=at(0, 1)), False)
    plan.admit(train(plan, 1, 1), True)  # it missed something: no harm
    with pytest.raises(Refused, match="round 0: this site is in round 1 already"):
        plan.admit(SubmitRequest(envelope=at(0, 1)), False)


@pytest.mark.parametrize("task", ["train", "propose", "swap", "submit"])
def test_a_segment_that_the_job_has_not_is_refused(plan, task):
    far = Segment(99_999, 1, IDS[:4])
    requests = {
        "train": train(plan, 0, 0, segments=[far], envelope=at(0, 99_999)),
        "propose": ProposeRequest(envelope=at(0, 99_999), segment=far),
        "swap": SwapRequest(envelope=at(0, 99_999), segment=far, responses=[]),
        "submit": SubmitRequest(envelope=at(0, 99_999)),
    }
    with pytest.raises(Refused, match=rf"^{task} of round 0, segment 99999, is not in the plan of this job$"):
        plan.admit(requests[task], False)


def test_a_segment_with_other_steps_or_problems_is_refused(plan):
    planned = train(plan, 0, 0).segments[0]
    for changed in (
        Segment(0, 50, planned.public_ids),
        Segment(0, planned.private_steps, IDS[:1]),
        Segment(0, planned.private_steps, planned.public_ids[::-1]),
    ):
        with pytest.raises(Refused, match="is not in the plan"):
            plan.admit(train(plan, 0, 0, segments=[changed]), True)
        with pytest.raises(Refused, match="is not in the plan"):
            plan.admit(ProposeRequest(envelope=at(0, 0), segment=changed), False)
    for changes in ({"segments": [planned] * 2}, {"exchange": False}, {"begin_round": False}):
        with pytest.raises(Refused, match="is not in the plan"):
            plan.admit(train(plan, 0, 0, **changes), True)


def test_measurements_are_the_planned_ones(plan):
    for wrong, with_adapter in (
        (measure(-1, 0, "base 0", samples=2000), False),
        (measure(-1, 0, "base 1"), False),
        (measure(0, 0, "local 0", share=None), False),  # not evaluated there
        (measure(0, 1, "local 1"), False),  # its own adapter, on its own held-out problems
        (measure(0, 1, "global 1"), False),  # the same, under another name
        (measure(0, 1, "local 1", share=None), True),  # an adapter that nobody planned
        (measure(0, 1, "local 1", share=None, problems=None), False),
    ):
        with pytest.raises(Refused, match="is not in the plan"):
            plan.admit(wrong, with_adapter)
    for right, with_adapter in (
        (measure(-1, 0, "base 0"), False),
        (measure(0, 1, "local 1", share=None), False),
        (measure(0, 1, "global 1"), True),
    ):
        plan.admit(right, with_adapter)
        with pytest.raises(Refused, match="was asked for already"):
            plan.admit(right, with_adapter)


def test_a_round_that_the_job_has_not_is_refused(plan):
    with pytest.raises(Refused, match="round 2: the job has 2 rounds, counted from 0"):
        plan.admit(SubmitRequest(envelope=at(2, 5)), False)


@pytest.mark.parametrize("method", ["pubswap", "local"])
def test_a_run_that_goes_on_with_fewer_rounds_than_it_has_done_is_measured_and_over(tmp_path, small_job, method):
    run(tmp_path / "whole", spec(small_job(method=method, federation__rounds=3)))
    kept = CompletedRound(2, initial_adapter(SHAPES, 2), tmp_path / "whole" / "job" / "metrics.jsonl", [], {})
    shorter = spec(small_job(method=method, federation__rounds=2), resume=True)
    assert run(tmp_path / "rest", shorter, kept=kept).measured == 1
    with pytest.raises(Refused, match="is not in the plan"):
        SitePlan(shorter).admit(SubmitRequest(envelope=at(2, 5)), False)


@pytest.mark.parametrize("task", ["propose", "swap", "submit"])
def test_an_adapter_comes_only_beside_what_takes_one(plan, task):
    segment = plan_round(plan._spec.job, 0, list(IDS))[0].last
    request = {
        "propose": ProposeRequest(envelope=at(0, 0), segment=segment),
        "swap": SwapRequest(envelope=at(0, 0), segment=segment, responses=[]),
        "submit": SubmitRequest(envelope=at(0, 1)),
    }[task]
    with pytest.raises(Refused, match=f"^an adapter came beside {task}, which takes none$"):
        plan.admit(request, True)
    plan.admit(request, False)


def test_what_the_job_does_not_ask_of_sites_comes_beside_no_answers(small_job):
    made = PublicResponse(IDS[0], "#1", 0, (-0.5,))
    for changes, refused in (
        ({}, {"targets", "log-probabilities"}),
        ({"swap__rule": "match_global"}, {"log-probabilities"}),
        ({"swap__off_policy": "ratio"}, {"targets"}),
        ({"method": "replace-all", "swap__rule": "match_global", "swap__off_policy": "ratio"}, {"targets"}),
    ):
        job = small_job(**changes)
        segment = plan_round(job, 0, list(IDS))[0].last
        about = {"envelope": at(0, 0), "segment": segment}
        for what, request in (
            ("targets", SwapRequest(**about, responses=[], targets={segment.public_ids[0]: 0.5})),
            ("log-probabilities", SwapRequest(**about, responses=[("site-2", made)])),
        ):
            plan = SitePlan(spec(job))
            if what in refused:
                with pytest.raises(Refused, match=f"^{what} came, which a job with its method and swap"):
                    plan.admit(request, False)
            else:
                plan.admit(request, False)


def test_with_an_adaptive_schedule_a_segment_is_trained_once_with_an_exchange_or_without(small_job):
    adaptive = SitePlan(spec(small_job(federation__rounds=2, exchange__schedule="adaptive")))
    request = train(adaptive, 0, 0, exchange=False)
    adaptive.admit(request, True)
    for exchange in (True, False):
        with pytest.raises(Refused, match="was asked for already"):
            adaptive.admit(request.model_copy(update={"exchange": exchange}), True)
    adaptive.admit(train(adaptive, 0, 1, exchange=True), False)
    segment = request.segments[0]
    with pytest.raises(Refused, match="was asked for already"):
        adaptive.admit(ProposeRequest(envelope=at(0, 0), segment=segment, wanted=[IDS[7]]), False)
    later = train(adaptive, 0, 1).segments[0]
    with pytest.raises(Refused, match="answers are wanted"):
        adaptive.admit(ProposeRequest(envelope=at(0, 1), segment=later, wanted=["elsewhere"]), False)
    with pytest.raises(Refused, match="answers are wanted"):
        adaptive.admit(ProposeRequest(envelope=at(0, 1), segment=later), False)
    adaptive.admit(ProposeRequest(envelope=at(0, 1), segment=later, wanted=[IDS[7]]), False)


def test_a_step_that_was_taken_without_an_exchange_gets_none_later(small_job):
    adaptive = SitePlan(spec(small_job(federation__rounds=2, exchange__schedule="adaptive")))
    request = train(adaptive, 0, 0, exchange=False)
    adaptive.admit(request, True)
    segment = request.segments[0]
    for late in (
        ProposeRequest(envelope=at(0, 0), segment=segment, wanted=[IDS[0]]),
        SwapRequest(envelope=at(0, 0), segment=segment, responses=[]),
    ):
        with pytest.raises(Refused, match="does not follow a train with an exchange"):
            adaptive.admit(late, False)


def test_with_another_schedule_answers_are_to_the_steps_own_problems(plan):
    segment = train(plan, 0, 0).segments[0]
    with pytest.raises(Refused, match="answers are wanted"):
        plan.admit(ProposeRequest(envelope=at(0, 0), segment=segment, wanted=[segment.public_ids[0]]), False)


def test_private_steps_are_counted_within_a_round(plan):
    for number, phase in ((0, 0), (0, 1)):
        request = train(plan, number, phase)
        plan.admit(request, phase == 0)
        plan.count(request)
    assert plan.private_steps == 2
    plan.admit(train(plan, 1, 0), True)
    assert plan.private_steps == 0
