"""A site's part in a run, with a scripted worker: what is refused before anything is computed."""

from pathlib import Path

import pytest
from tests.scripted_site import HERE, SPEC, SUBMIT, refusal, train

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.schedule import plan_round
from fedrlvr.protocol.adapters import adapter_hash
from fedrlvr.protocol.answers import Failure, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import SubmitRequest, ValidateRequest
from fedrlvr.site.closed_gate import site_file
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.worker.setup import Ready


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


GLOBAL = ValidateRequest(envelope=Envelope.here("hash", 0, 1), samples=1, share=(0, 1), name="global 1")


@pytest.fixture
def two_rounds(site, small_job):
    return site(job=small_job(federation__rounds=2))


def begin_second_round(agent, adapter=None, **changes):
    planned = plan_round(agent.spec.job, 1, list(agent.spec.public_ids))[0]
    place = Envelope.here("hash", 1, planned.last.index)
    return train(agent, adapter=adapter, segments=list(planned.segments), envelope=place, **changes)[0]


def test_the_adapter_that_was_measured_last_need_not_come_again(two_rounds):
    adapter = initial_adapter(SPEC, 0)
    assert isinstance(two_rounds.answer(GLOBAL, adapter)[0], ValidateAnswer)
    assert isinstance(begin_second_round(two_rounds, start=adapter_hash(adapter)), StepsAnswer)
    assert two_rounds.worker.tensors[-1] is adapter


@pytest.mark.parametrize("measured", [None, initial_adapter(SPEC, 1)], ids=["none", "another"])
def test_a_site_that_has_not_the_adapter_says_so_and_may_be_sent_it(two_rounds, measured):
    adapter = initial_adapter(SPEC, 0)
    if measured is not None:
        two_rounds.answer(GLOBAL, measured)
    failure = begin_second_round(two_rounds, start=adapter_hash(adapter))
    assert failure == Failure.of("this site does not have the round's first adapter any more")


def test_an_adapter_that_comes_is_the_one_that_counts(two_rounds):
    measured, sent = initial_adapter(SPEC, 1), initial_adapter(SPEC, 0)
    two_rounds.answer(GLOBAL, measured)
    assert isinstance(begin_second_round(two_rounds, adapter=sent, start=adapter_hash(sent)), StepsAnswer)
    assert two_rounds.worker.tensors[-1] is sent


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


def test_a_simulated_sites_own_file_goes_before_the_shared_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no site file fedrlvr.yaml"):
        site_file(tmp_path, "site-1")
    (tmp_path / "fedrlvr.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.yaml"
    (tmp_path / "fedrlvr.site-1.yaml").touch()
    assert site_file(tmp_path, "site-1").name == "fedrlvr.site-1.yaml"
    assert site_file(tmp_path, "site-2").name == "fedrlvr.yaml"
