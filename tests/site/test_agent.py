"""A site's part in a run, with a scripted worker: what is refused before anything is computed."""

import re
from itertools import count
from pathlib import Path

import pytest
import yaml
from tests.runs import some_spec

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.schedule import plan_round
from fedrlvr.data.problems import content_hash
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.protocol.answers import Failure, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, SiteScores
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest, ValidateRequest
from fedrlvr.site.agent import SiteAgent, site_file
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.worker.setup import Ready

HERE = Envelope.here("hash", 0, 1)
SPEC = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
SUBMIT = SubmitRequest(envelope=HERE)  # at the end of the only round, of two segments


def train(agent: SiteAgent, phase: int = 0, adapter=None, **changes):
    """What the agent answers to a phase of the round, as it was planned."""
    job = agent.spec.job
    planned = plan_round(job, 0, list(agent.spec.public_ids))[phase]
    values = {
        "envelope": HERE.model_copy(update={"segment": planned.last.index}),
        "segments": list(planned.segments),
        "exchange": planned.exchange,
        "begin_round": phase == 0,
        "adapter_spec": spec_hash(SPEC, job.lora),
    }
    return agent.answer(TrainRequest(**values | changes), adapter)


class ScriptedWorker:
    """Is ready at once, and answers like a worker of this model."""

    def __init__(self, setup):
        self.setup, self.running, self.failing, self.calls = setup, False, False, []
        self.started = Ready(adapter_spec=SPEC, private_problems=16, rounds_done=0, ledger="")

    def start(self):
        self.calls.append("start")
        self.running = isinstance(self.started, Ready)
        return self.started

    def ask(self, request, tensors=None, ledger=""):
        self.calls.append(request.task)
        if self.failing:
            return Failure.of("out of memory"), None
        match request:
            case ValidateRequest():
                scores = SiteScores(test={"A": {"problems": 4.0, "pass@1": 0.5}})
                about = {"adapter_spec": SPEC, "base_model": self.setup.base_model}
                return ValidateAnswer(envelope=request.envelope, scores=scores, **about), None
            case TrainRequest():
                return StepsAnswer(envelope=request.envelope, steps=[]), None
        return SubmitAnswer(envelope=request.envelope), initial_adapter(SPEC, 0)

    def stop(self, grace=0.0):
        self.running = False
        self.calls.append("stop")


@pytest.fixture
def site(site_files, small_job):
    """site(**of the spec) -> an agent whose site has real files; `.worker` is its worker once it has one."""
    _, configs = site_files({"site-1": ("A",)})
    local = configs["site-1"].state_dir.parent
    configs["site-1"].write(local / "fedrlvr.yaml")

    def make(check_way_out=lambda: None, **values) -> SiteAgent:
        spec = some_spec(**{"job": small_job()} | values)

        def new_worker(setup):
            agent.worker = ScriptedWorker(setup)
            return agent.worker

        agent = SiteAgent(spec, "site-1", "job-1", local, new_worker, check_way_out)
        agent.worker = None
        return agent

    make.local, make.config = local, configs["site-1"]
    return make


def refusal(answer) -> str:
    failure, tensors = answer
    assert isinstance(failure, Failure)
    assert failure.would_not
    assert tensors is None
    return failure.reason


@pytest.mark.parametrize("field", ["protocol", "version", "source", "public_sha256"])
def test_a_server_with_other_code_or_problems_is_refused_with_both_values(site, field):
    value = 9 if field == "protocol" else "other"
    agent = site()
    reason = refusal(agent.answer(SubmitRequest(envelope=HERE.model_copy(update={field: value})), None))
    assert reason == f"{field} differs: the message says {value!r}, this side has {getattr(HERE, field)!r}"
    assert agent.worker.calls == []  # nothing was started


def test_a_job_for_another_base_model_is_refused_with_both_values(site):
    own, agent = model_fingerprint(site.config.model_path), site(base_model="0123456789abcdef")
    reason = refusal(agent.answer(SUBMIT, None))
    assert reason == f"base model differs: the job is for 0123456789abcdef, this site has {own}"
    assert agent.worker is None


def test_a_site_says_which_base_model_it_has_and_how_long_it_worked(site):
    own = model_fingerprint(site.config.model_path)
    request = ValidateRequest(envelope=Envelope.here("hash"), samples=1, share=(0, 1), name="base 0")
    answer, _ = site(base_model=own).answer(request, None)
    assert (answer.base_model, answer.adapter_spec, answer.envelope) == (own, SPEC, request.envelope)
    assert answer.seconds > 0


def test_another_adapter_is_refused_with_both_hashes(site, small_job):
    job = small_job()
    own = spec_hash(SPEC, job.lora)
    reordered = spec_hash(dict(reversed(SPEC.items())), job.lora)
    assert isinstance(train(site(), adapter_spec=reordered)[0], StepsAnswer)
    for other in (
        spec_hash(SPEC | {"a.lora_A.weight": [8, 65]}, job.lora),
        spec_hash(SPEC, job.lora.model_copy(update={"alpha": 32.0})),
        spec_hash({name.replace("a.", "b."): shape for name, shape in SPEC.items()}, job.lora),
    ):
        said = f"adapter spec differs: the server says {other}, this site's model gives {own}"
        assert refusal(train(site(), adapter=initial_adapter(SPEC, 0), adapter_spec=other)) == said
    larger = initial_adapter(SPEC | {"a.lora_A.weight": [8, 65]}, 0)
    assert "a.lora_A.weight has shape [8, 65], expected [8, 64]" in refusal(train(site(), adapter=larger))


def test_weights_that_cannot_be_read_are_an_error_of_the_site(site, monkeypatch, tmp_path):
    def damaged(folder: Path) -> str:
        (tmp_path / "model.safetensors").write_bytes(b"")
        return model_fingerprint(tmp_path)

    monkeypatch.setattr("fedrlvr.site.agent.model_fingerprint", damaged)
    failure, _ = site().answer(SUBMIT, None)
    assert failure.reason.startswith("model.safetensors: not a safetensors file")
    assert not failure.would_not


def test_a_worker_that_does_not_start_is_tried_again_with_the_next_task(site):
    agent = site()
    good, failed = train(agent)[0], Failure.of("private.jsonl, line 2, field answer: missing")
    assert isinstance(good, StepsAnswer)
    agent.worker.running, agent.worker.started = False, failed
    assert train(agent, phase=1) == (failed, None)
    agent.worker.started = Ready(adapter_spec=SPEC, private_problems=16, rounds_done=0, ledger="")
    assert isinstance(agent.answer(SUBMIT, None)[0], SubmitAnswer)
    assert agent.worker.calls == ["start", "train", "start", "start", "submit"]


def test_a_job_that_plans_too_much_is_refused_at_every_task_and_keeps_no_worker(site, tmp_path):
    """Two rounds at noise 1 cost more than epsilon 5 at delta 1e-5, one round less (4.38)."""
    policy = site.local / "policy.yaml"
    policy.write_text("adapters: {clip_norm: 1.0, noise_multiplier: 1.0, max_epsilon: 5.0}\n")
    site.config.model_copy(update={"policy": policy}).write(site.local / "fedrlvr.yaml")
    job = site().spec.job
    federation = job.federation.model_copy(update={"rounds": 2})
    agent = site(job=job.model_copy(update={"federation": federation}))
    for phase in (0, 1):
        assert "its limit is 5: plan fewer rounds" in refusal(train(agent, phase))
    assert agent.worker.calls == ["start", "stop"]
    assert isinstance(site().answer(SUBMIT, None)[0], SubmitAnswer)


def test_with_a_policy_nothing_is_answered_before_the_other_ways_out_are_shut(site):
    policy = site.local / "policy.yaml"
    policy.write_text("responses: {share: false}\n")

    def open_door() -> None:
        raise Refused("the site's file names a policy, but its privacy.json does not switch SiteGate on")

    assert isinstance(site(open_door).answer(SUBMIT, None)[0], SubmitAnswer)  # no policy, nothing to keep
    site.config.model_copy(update={"policy": policy}).write(site.local / "fedrlvr.yaml")
    agent = site(open_door)
    assert "does not switch SiteGate on" in refusal(agent.answer(SUBMIT, None))
    assert agent.worker is None


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


def test_a_simulated_sites_own_file_goes_before_the_shared_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no site file fedrlvr.yaml"):
        site_file(tmp_path, "site-1")
    (tmp_path / "fedrlvr.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.yaml"
    (tmp_path / "fedrlvr.site-1.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.site-1.yaml"
    assert site_file(tmp_path, "site-2").name == "fedrlvr.yaml"


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
