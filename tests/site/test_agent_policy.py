"""What a site's policy and records refuse before anything is computed, with a scripted worker."""

import re
from itertools import count

import pytest
import yaml
from tests.scripted_site import HERE, SUBMIT, refusal, train

from fedrlvr.data.problems import content_hash
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.protocol.answers import Failure, SubmitAnswer
from fedrlvr.protocol.requests import SubmitRequest
from fedrlvr.site.agent import SiteAgent
from fedrlvr.site.draws_key import draws_key


@pytest.fixture
def under(site):
    """`under(a policy's values, **of the spec)` -> an agent whose site has that policy."""

    def make(values: dict, **of_the_spec) -> SiteAgent:
        policy = site.local / "policy.yaml"
        policy.write_text(yaml.safe_dump(values))
        site.config.model_copy(update={"policy": policy}).write(site.local / "fedrlvr.yaml")
        return site(**of_the_spec)

    make.log = EgressLog(site.local / "fedrlvr-egress.jsonl")
    return make


def test_what_the_job_does_not_plan_reaches_no_worker_and_is_in_the_log(under):
    agent = under({})
    train(agent)
    for number in range(3):
        reason = refusal(agent.egress.release("train", *train(agent)))
        assert reason.startswith("train of round 0, segment 0, was asked for already")
        assert len(list(under.log.entries())) == number + 1
    assert agent.worker.calls == ["start", "train"]
    assert [entry["reason"] for entry in under.log.entries()] == [reason] * 3


def test_one_adapter_a_round(site):
    agent = site()
    train(agent)
    assert isinstance(agent.answer(SUBMIT, None)[0], SubmitAnswer)
    for _ in range(2):
        assert "was asked for already" in refusal(agent.answer(SUBMIT, None))


def test_an_update_of_too_few_problems_is_refused_by_plan_and_by_what_was_done(under, job):
    """Two private steps of 4 problems each are planned: at most 8 problems. The site has 16."""
    reason = "a round's update would come from too few private problems: adapters.min_problems is "
    said = refusal(under({"adapters": {"min_problems": 9}}).answer(SUBMIT, None))
    assert said == f"{reason}9, and its private steps draw only 8"
    many = job.model_copy(update={"grpo": job.grpo.model_copy(update={"prompts_per_step": 40})})
    said = refusal(under({"adapters": {"min_problems": 17}}, job=many).answer(SUBMIT, None))
    assert said == f"{reason}17, and this site has fewer"
    agent = under({"adapters": {"min_problems": 8}})
    train(agent)
    assert refusal(agent.answer(SUBMIT, None)) == f"{reason}8, and its private steps draw only 4"  # one phase missed
    agent = under({"adapters": {"min_problems": 8}})
    train(agent)
    train(agent, phase=1)
    assert isinstance(agent.answer(SUBMIT, None)[0], SubmitAnswer)


def test_steps_that_failed_are_not_behind_an_update(under):
    agent = under({"adapters": {"min_problems": 8}})
    train(agent)
    agent.worker.failing = True
    assert isinstance(train(agent, phase=1)[0], Failure)
    agent.worker.failing = False
    assert "too few private problems" in refusal(agent.answer(SUBMIT, None))


def test_a_job_that_asks_for_more_than_the_sites_limits_gets_no_worker(under):
    agent = under({"limits": {"num_generations": 3}})
    assert refusal(agent.answer(SUBMIT, None)) == "limits.num_generations is 3, the job asks for 4"
    assert agent.worker is None


def test_a_job_whose_answers_need_log_probabilities_gets_no_worker_where_these_stay(under, small_job):
    job = small_job(swap__off_policy="ratio")
    for values in ({}, {"responses": {"share": True, "max_per_prompt": 4}}):
        agent = under(values, job=job)
        said = refusal(agent.answer(SUBMIT, None))
        assert said.startswith("the job has swap.off_policy: ratio, for which answers take the log-probabilities")
        assert said.endswith("at this site these stay (responses.logprobs: false)")
        assert agent.worker is None
    for values in ({"responses": {"logprobs": True}}, {"responses": {"share": False}}):
        assert isinstance(under(values, job=job).answer(SUBMIT, None)[0], SubmitAnswer)
    silent = small_job(swap__off_policy="ratio", method="fedavg")  # nothing is exchanged
    assert isinstance(under({}, job=silent).answer(SUBMIT, None)[0], SubmitAnswer)


def test_draws_are_the_sites_own_where_its_policy_says_so_and_stay_the_same(under, site):
    def key() -> str:
        agent = under({"training": {"secret_draws": True}})
        train(agent)
        return agent.worker.setup.draws_key

    first = key()
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert key() == first
    file = site.config.state_dir / "draws.key"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(first[:-1])
    assert "draws.key in state_dir is damaged" in refusal(train(under({"training": {"secret_draws": True}})))
    file.unlink()
    assert key() != first
    agent = under({})
    train(agent)
    assert agent.worker.setup.draws_key == ""


def test_two_jobs_at_a_new_site_have_one_key(tmp_path, monkeypatch):
    """The other's file appears while this one is being made."""

    def slow(size: int) -> str:
        (tmp_path / "draws.key").write_text("a" * 64)
        return "b" * 64

    monkeypatch.setattr("fedrlvr.site.draws_key.secrets.token_hex", slow)
    assert draws_key(tmp_path) == "a" * 64
    assert [path.name for path in tmp_path.iterdir()] == ["draws.key"]


def put_back(older: dict) -> None:
    for path, content in older.items():
        path.write_bytes(content)


@pytest.fixture
def charging(site, small_job):
    """`charging()` -> an agent whose adapters cost budget; `.ask(receipt)` has the next round's leave by the gate."""
    policy = site.local / "policy.yaml"
    policy.write_text("adapters: {clip_norm: 1.0, noise_multiplier: 100.0}\n")
    job = small_job(federation__rounds=10)
    site.config.model_copy(update={"policy": policy}).write(site.local / "fedrlvr.yaml")

    def make():
        agent = site(job=job)
        rounds = count()

        def ask(receipt: str = ""):
            number = next(rounds)
            place = HERE.model_copy(update={"round": number, "segment": 2 * number + 1})
            answer = agent.answer(SubmitRequest(envelope=place, receipt=receipt), None)
            return agent.egress.release("submit", *answer)[0]

        agent.ask = ask
        return agent

    make.policy = policy
    return make


def test_a_restored_ledger_is_refused_again_and_again(site, charging):
    """Also by a new process: a refusal is in the log, too, and must not make it forget which ledger it had seen."""
    agent = charging()
    assert isinstance(agent.ask(), SubmitAnswer)
    older = {path: path.read_bytes() for path in (agent.egress.ledger.path, agent.egress.ledger.head)}
    assert isinstance(agent.ask(), SubmitAnswer)
    newer = {path: path.read_bytes() for path in older}
    put_back(older)
    for asked in (agent, agent, charging(), charging()):
        assert "lines are missing that the egress log has seen" in asked.ask().reason
    put_back(newer)
    for asked in (agent, charging()):
        assert isinstance(asked.ask(), SubmitAnswer)


def test_a_ledger_restored_while_the_worker_works_is_refused(charging):
    agent = charging()
    agent.ask()
    older = {path: path.read_bytes() for path in (agent.egress.ledger.path, agent.egress.ledger.head)}
    agent.ask()
    answer = agent.answer

    def meanwhile(*request):
        answered = answer(*request)
        put_back(older)
        return answered

    agent.answer = meanwhile
    assert "lines are missing that the egress log has seen" in agent.ask().reason


def test_a_restored_log_is_refused_until_the_newer_one_is_back_or_given_up(site, charging):
    agent = charging()
    first = agent.ask()
    older = {path: path.read_bytes() for path in site.local.glob("fedrlvr-*.jsonl*")}
    last = agent.ask(first.receipt)
    assert isinstance(agent.ask(first.receipt), SubmitAnswer)  # an answer of this site that got lost on its way
    put_back(older)
    for asked in (agent, agent, charging()):
        assert asked.ask(last.receipt).reason.endswith(last.receipt)
    assert isinstance(agent.ask(first.receipt), SubmitAnswer)  # the server may know nothing newer
    charging.policy.write_text(charging.policy.read_text() + f"lost_receipts: [{last.receipt}]\n")
    after = charging().ask(last.receipt)
    assert isinstance(charging().ask(after.receipt), SubmitAnswer)


def test_a_site_that_kept_a_log_is_refused_without_its_policy(site):
    agent = site()
    said = refusal(agent.answer(SUBMIT.model_copy(update={"receipt": "1" * 64}), None))
    assert said == "this site kept an egress log in this run, and has no policy any more"
    assert isinstance(agent.answer(SUBMIT, None)[0], SubmitAnswer)


def test_private_steps_and_adapters_are_charged_to_the_model_and_its_problems(site, charging):
    agent = charging()
    agent.ask()
    ((charged,),) = agent.egress.ledger.budgets()
    assert charged.model == "tiny"
    assert charged.data == content_hash(site.config.private_problems)
