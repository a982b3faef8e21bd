"""A site's part in a run, with a scripted worker: what is refused before anything is computed."""

from pathlib import Path

import pytest

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.protocol.answers import Failure, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, Segment, SiteScores
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.agent import SiteAgent, site_file
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.worker.setup import Ready

HERE = Envelope.here("hash", 0, 0)
SPEC = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
SUBMIT = SubmitRequest(envelope=HERE)


class ScriptedWorker:
    """Is ready at once, and answers like a worker of this model."""

    def __init__(self, setup):
        self.setup, self.running, self.calls = setup, False, []
        self.started = Ready(adapter_spec=SPEC, private_problems=16, rounds_done=0, ledger="")

    def start(self):
        self.calls.append("start")
        self.running = isinstance(self.started, Ready)
        return self.started

    def ask(self, request, tensors=None, ledger=""):
        self.calls.append(request.task)
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
        spec = RunSpec(**{"job": small_job(), "public_ids": ["p"], "public_sha256": "hash"} | values)

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
    request = ValidateRequest(envelope=HERE, samples=1, share=None, name="base 0")
    answer, _ = site(base_model=own).answer(request, None)
    assert (answer.base_model, answer.adapter_spec, answer.envelope) == (own, SPEC, HERE)
    assert answer.seconds > 0


def test_another_adapter_is_refused_with_both_hashes(site, small_job):
    job = small_job()
    own, agent = spec_hash(SPEC, job.lora), site()

    def train(told: str, adapter=None):
        segments = [Segment(0, 1, ())]
        return agent.answer(
            TrainRequest(envelope=HERE, segments=segments, exchange=False, begin_round=True, adapter_spec=told), adapter
        )

    assert isinstance(train(spec_hash(dict(reversed(SPEC.items())), job.lora))[0], StepsAnswer)  # order says nothing
    for other in (
        spec_hash(SPEC | {"a.lora_A.weight": [8, 65]}, job.lora),
        spec_hash(SPEC, job.lora.model_copy(update={"alpha": 32.0})),
        spec_hash({name.replace("a.", "b."): shape for name, shape in SPEC.items()}, job.lora),
    ):
        said = f"adapter spec differs: the server says {other}, this site's model gives {own}"
        assert refusal(train(other, initial_adapter(SPEC, 0))) == said
    larger = initial_adapter(SPEC | {"a.lora_A.weight": [8, 65]}, 0)
    assert "a.lora_A.weight has shape [8, 65], expected [8, 64]" in refusal(train(own, larger))


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
    good, failed = agent.answer(SUBMIT, None)[0], Failure.of("private.jsonl, line 2, field answer: missing")
    assert isinstance(good, SubmitAnswer)
    agent.worker.running, agent.worker.started = False, failed
    assert agent.answer(SUBMIT, None) == (failed, None)
    agent.worker.started = Ready(adapter_spec=SPEC, private_problems=16, rounds_done=0, ledger="")
    assert isinstance(agent.answer(SUBMIT, None)[0], SubmitAnswer)
    assert agent.worker.calls == ["start", "submit", "start", "start", "submit"]


def test_a_job_that_plans_too_much_is_refused_at_every_task_and_keeps_no_worker(site, tmp_path):
    """Two rounds at noise 1 cost more than epsilon 5 at delta 1e-5, one round less (4.38)."""
    policy = site.local / "policy.yaml"
    policy.write_text("adapters: {clip_norm: 1.0, noise_multiplier: 1.0, max_epsilon: 5.0}\n")
    site.config.model_copy(update={"policy": policy}).write(site.local / "fedrlvr.yaml")
    job = site().spec.job
    federation = job.federation.model_copy(update={"rounds": 2})
    agent = site(job=job.model_copy(update={"federation": federation}))
    for _ in range(3):
        assert "its limit is 5: plan fewer rounds" in refusal(agent.answer(SUBMIT, None))
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


def test_a_simulated_sites_own_file_goes_before_the_shared_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no site file fedrlvr.yaml"):
        site_file(tmp_path, "site-1")
    (tmp_path / "fedrlvr.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.yaml"
    (tmp_path / "fedrlvr.site-1.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.site-1.yaml"
    assert site_file(tmp_path, "site-2").name == "fedrlvr.yaml"
