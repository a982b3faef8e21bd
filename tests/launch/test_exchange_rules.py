"""Whole runs under each rule of the swap, each treatment of swapped tokens, and several rewards."""

import math

import pytest
from tests.launch.test_local import SITES, TWO_ROUNDS, Scripted, _in_round
from tests.runs import of, round_adapters, run_here, spec_of

from fedrlvr.algorithms.right_shares import mean_shares
from fedrlvr.launch.local import LocalTask, LocalTransport
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import SubmitAnswer
from fedrlvr.protocol.records import Findings
from fedrlvr.protocol.requests import SwapRequest
from fedrlvr.run import RunFailed

ALL = {"swap__rule": "match_global", "swap__prefer": "likely", "swap__off_policy": "ratio", "swap__max_per_site": 2}
REWARDS = {
    "grpo__reward_weights": {"accuracy": 1.0, "format": 0.2, "soft_overlong": 0.5, "repetition": 0.1},
    "grpo__soft_punish_cache": 5,
}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


class Listening(LocalTransport):
    """Keeps every request and its answer."""

    def __init__(self, agents):
        super().__init__(agents)
        self.said = []

    def send(self, site, message, timeout, changed):
        task = super().send(site, message, timeout, changed)
        self.said.append((site, message.request, task.reply()[0]))
        return task


def listened(folder, spec, sites) -> tuple[list[dict], list]:
    transports = []

    def listening(agents):
        transports.append(Listening(agents))
        return transports[0]

    events, _ = run_here(folder, spec, sites, new_transport=listening)
    return events, transports[0].said


@pytest.mark.parametrize(
    "changes",
    [
        {"swap__rule": "match_global"},
        {"swap__prefer": "likely"},
        {"swap__max_per_site": 1},
        {"swap__off_policy": "ratio"},
        {"swap__off_policy": "shaped"},
        {"swap__off_policy": "ratio", "method": "replace-all"},
        REWARDS,
        ALL | REWARDS | {"grpo__num_iterations": 2},
    ],
    ids=str,
)
def test_a_run_comes_to_its_end_and_repeats(small_job, sites, tmp_path, changes):
    spec = spec_of(small_job(grpo__num_generations=8, federation__min_sites=2, **changes), sites)
    events, run = run_here(tmp_path / "run", spec, sites)
    assert not of(events, "failure")
    public = [e for e in of(events, "step") if e["kind"] == "public"]
    assert sum(e["swap/completions"] for e in public) > 0
    assert sum(e["optimizer_steps"] for e in public) > 0
    assert all(e["exchange/wrong"] == 0 for e in public)
    assert all(math.isfinite(value) for e in public for value in e.values() if isinstance(value, float))
    if "grpo__reward_weights" in changes:
        assert {f"rewards/{name}" for name in changes["grpo__reward_weights"]} <= public[0].keys()
    again = run_here(tmp_path / "again", spec_of(spec.job, sites), sites)[1]
    assert round_adapters(again) == round_adapters(run)


def test_the_targets_are_the_means_of_what_the_sites_told(small_job, sites, tmp_path):
    spec = spec_of(small_job(grpo__num_generations=8, swap__rule="match_global"), sites)
    _, said = listened(tmp_path / "run", spec, sites)
    told: dict[int, list[dict]] = {}
    for _, request, answer in said:
        if request.task == "propose":
            assert set(answer.shares) == {*request.segment.public_ids}
            told.setdefault(request.segment.index, []).append(answer.shares)
    swaps = [request for _, request, _ in said if isinstance(request, SwapRequest)]
    assert len(swaps) == 4
    for request in swaps:
        assert request.targets == mean_shares(told[request.segment.index])
    assert any(0 < target < 1 for request in swaps for target in request.targets.values())


def test_a_site_that_keeps_its_shares_is_left_out_of_the_mean_and_stays_in_the_run(small_job, sites, tmp_path):
    config = sites["site-2"]
    policy = SitePolicy(ledger=config.state_dir / "ledger.jsonl", log=config.state_dir / "log.jsonl")
    policy.write(config.state_dir / "policy.yaml")
    held = sites | {"site-2": config.model_copy(update={"policy": config.state_dir / "policy.yaml"})}
    spec = spec_of(small_job(swap__rule="match_global", federation__min_sites=2), held)
    events, said = listened(tmp_path / "run", spec, held)
    assert not of(events, "failure")
    shares = {site: answer.shares for site, request, answer in said if request.task == "propose"}
    assert shares["site-2"] is None
    swaps = [request for _, request, _ in said if isinstance(request, SwapRequest)]
    assert swaps[-1].targets == shares["site-1"]
    entries = [e["rules"] for e in EgressLog(policy.log).entries() if e["kind"] == "responses"]
    assert [(rules["shares_told"], rules["shares_kept_here"]) for rules in entries] == [(0, 4)] * 2


def test_log_probabilities_travel_from_the_sender_to_the_receiver_as_they_are(small_job, sites, tmp_path):
    spec = spec_of(small_job(swap__off_policy="ratio", grpo__num_generations=8), sites)
    events, said = listened(tmp_path / "run", spec, sites)
    sent = {
        (site, response.problem_id, response.text, response.logprobs)
        for site, request, answer in said
        if request.task == "propose"
        for response in answer.responses
    }
    came = {
        (site, response.problem_id, response.text, response.logprobs)
        for _, request, _ in said
        if isinstance(request, SwapRequest)
        for site, response in request.responses
    }
    assert came
    assert came <= sent
    assert all(logprobs for *_, logprobs in came)
    plain = sum(len(name) + len(text) for _, name, text, _ in sent)
    assert sum(sum(e["bytes_up"].values()) for e in of(events, "exchange")) > plain


ADAPTIVE = {"exchange__schedule": "adaptive", "exchange__worth": 0.01, "grpo__num_generations": 8}


def test_an_adaptive_run_asks_for_what_somebody_fails_and_somebody_has(small_job, sites, tmp_path):
    rounds = {"federation__rounds": 2, "federation__segments_per_round": 4, "federation__min_sites": 2}
    spec = spec_of(small_job(**ADAPTIVE, **rounds), sites)
    events, said = listened(tmp_path / "run", spec, sites)
    assert not of(events, "failure")
    findings, asked = {}, 0
    for site, request, answer in said:
        if request.task == "propose":
            asked += 1
            failed = {name for told in findings.values() for name in told.unsolved}
            had = {name for told in findings.values() for name in told.found}
            assert request.wanted
            assert {*request.wanted} <= failed & had
            assert {response.problem_id for response in answer.responses} <= {*request.wanted}
        elif request.task in ("train", "swap"):
            findings[site] = answer.findings
    assert 2 <= asked == 2 * len(of(events, "exchange")) < 2 * 8
    again = run_here(tmp_path / "again", spec_of(spec.job, sites), sites)[1]
    assert round_adapters(again) == round_adapters(run_here(tmp_path / "third", spec_of(spec.job, sites), sites)[1])


def test_an_adaptive_run_whose_sites_tell_nothing_says_that_it_exchanges_nothing(small_job, sites, tmp_path):
    held = {}
    for name, config in sites.items():
        policy = SitePolicy(ledger=config.state_dir / "ledger.jsonl", log=config.state_dir / "log.jsonl")
        policy.write(config.state_dir / "policy.yaml")
        held[name] = config.model_copy(update={"policy": config.state_dir / "policy.yaml"})
    events, _ = run_here(tmp_path / "run", spec_of(small_job(**TWO_ROUNDS, **ADAPTIVE), held), held)
    assert [(e["round"], e["told"]) for e in of(events, "undecided")] == [(0, []), (1, [])]
    assert not of(events, "exchange")


def test_what_a_site_announced_and_kept_does_not_count_again(small_job, sites, tmp_path):
    """site-1 announces answers and offers none; after one exchange about them there is nothing left to ask for."""

    class Keeping(Listening):
        def send(self, site, message, timeout, changed):
            task = super().send(site, message, timeout, changed)
            answer = task.reply()[0]
            if site == "site-1" and message.request.task == "propose":
                answer = answer.model_copy(update={"responses": []})
            elif answer.payload().get("findings"):
                told = {"found": IDS, "unsolved": []} if site == "site-1" else {"found": [], "unsolved": IDS}
                answer = answer.model_copy(update={"findings": Findings(**told)})
            return LocalTask(lambda: (answer, None) if not isinstance(answer, SubmitAnswer) else task.reply())

    rounds = {"federation__rounds": 1, "federation__segments_per_round": 4, "federation__min_sites": 2}
    spec = spec_of(small_job(**ADAPTIVE, **rounds), sites)
    IDS = list(spec.public_ids)
    events, _ = run_here(tmp_path / "run", spec, sites, new_transport=Keeping)
    assert len(of(events, "exchange")) == 1


def test_a_resumed_adaptive_run_ends_as_a_whole_one(small_job, sites, tmp_path):
    job = small_job(**TWO_ROUNDS, **ADAPTIVE)
    calm = run_here(tmp_path / "calm", spec_of(job, sites), sites)[1]
    spec = spec_of(job, sites)
    lost = {("submit", "site-2"): _in_round(1, "gone for good")}
    with pytest.raises(RunFailed, match="gone for good"):
        run_here(tmp_path / "run", spec, sites, new_transport=lambda agents: Scripted(agents, lost))
    _, run = run_here(tmp_path / "run", spec.model_copy(update={"resume": True}), sites)
    assert round_adapters(run)[-1] == round_adapters(calm)[-1]


def test_without_them_no_message_has_a_word_of_shares_or_log_probabilities(small_job, sites, tmp_path):
    _, said = listened(tmp_path / "run", spec_of(small_job(grpo__num_generations=8), sites), sites)
    proposed = [answer.payload() for _, request, answer in said if request.task == "propose"]
    swaps = [request.model_dump(mode="json") for _, request, _ in said if isinstance(request, SwapRequest)]
    assert any(payload["responses"] for payload in proposed)
    assert any(swap["responses"] for swap in swaps)
    assert all(payload.keys() == {"responses"} for payload in proposed)
    assert all(swap.keys() == {"envelope", "receipt", "segment", "responses"} for swap in swaps)
    responses = [r for payload in proposed for r in payload["responses"]]
    responses += [r for swap in swaps for _, r in swap["responses"]]
    assert all(response.keys() == {"problem_id", "text", "variant"} for response in responses)


def test_a_resumed_run_has_kept_targets_and_log_probabilities(small_job, sites, tmp_path):
    """The only exchange is in the first round; the second, which is resumed, lives on the kept pool."""
    job = small_job(**TWO_ROUNDS, **ALL, exchange__schedule=[0], exchange__prompts_per_step=8, grpo__num_generations=8)
    spec = spec_of(job, sites)
    calm = run_here(tmp_path / "calm", spec_of(job, sites), sites)
    later = [e for e in of(calm[0], "step") if e["kind"] == "public" and e["round"] == 1]
    assert sum(e["swap/completions"] for e in later) > 0
    lost = {("submit", "site-2"): _in_round(1, "gone for good")}
    with pytest.raises(RunFailed, match="gone for good"):
        run_here(tmp_path / "run", spec, sites, new_transport=lambda agents: Scripted(agents, lost))
    _, run = run_here(tmp_path / "run", spec.model_copy(update={"resume": True}), sites)
    assert round_adapters(run)[-1] == round_adapters(calm[1])[-1]
