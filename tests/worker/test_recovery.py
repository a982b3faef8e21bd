"""A worker that was lost: the next one goes on as if nothing had been, or says what it lacks. With the real trainer."""

from dataclasses import replace

import pytest
from tests.tensors import same

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.algorithms.methods import asks_logprobs, asks_shares
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.trainer_state import SiteProgress
from fedrlvr.protocol.records import Segment
from fedrlvr.worker.checkpoint import NotThere
from fedrlvr.worker.service import Service

RUN = "0123456789abcdef"


@pytest.fixture
def worker(set_up, requests_of, right_answers):
    """worker(job): a new worker of the same run and site; the one before is gone, and all have the same disk."""
    alive = []

    def start(job, recover=True, **changes) -> Worker:
        for service in alive:
            service.close(save=False)
        setup = set_up(job, labels=("A", "B", "C", "D"), recover=recover, run={"run": RUN}, **changes)
        alive[:] = [Service(setup, Ranks())]
        return Worker(alive[0], requests_of(setup.spec), right_answers)

    yield start
    for service in alive:
        service.close(save=False)


class Worker:
    """A worker's service, and what a server asks of it: segment after segment, the public problems in two halves."""

    def __init__(self, service: Service, requests, right_answers):
        self.service, self.trainer, self.requests, self._right = service, service.trainer, requests, right_answers
        self.checkpoints = service._checkpoints.folder

    def segment(self, index: int) -> Segment:
        return Segment(index, 1, self.requests.spec.public_ids[4 * (index % 2) :][:4])

    def train(self, index: int, exchange: bool, adapter=None, round=0, ledger=""):
        request = self.requests.train(self.segment(index), exchange, index % 3 == 0, round)
        return self.service.answer(request, adapter, ledger)[0]

    def propose(self, index: int, round=0):
        return self.service.answer(self.requests.propose(self.segment(index), round), None, "")[0]

    def swap(self, index: int, round=0):
        """With right answers of two other sites."""
        segment = self.segment(index)
        answers = self._right([self.trainer.problems.public[name] for name in segment.public_ids])
        if asks_logprobs(self.trainer.job):
            tokens = self.trainer.rollouts.tokens_of
            answers = [(site, replace(a, logprobs=(-0.5,) * len(tokens(a.text)))) for site, a in answers]
        targets = dict.fromkeys(segment.public_ids, 0.75) if asks_shares(self.trainer.job) else {}
        return self.service.answer(self.requests.swap(segment, answers, round, **targets), None, "")[0]

    def submit(self, round=0):
        return self.service.answer(self.requests.submit(round), None, "")[1]

    def adapter(self, factor=1.0) -> dict:
        return {name: tensor * factor for name, tensor in self.trainer.engine.adapter().items()}

    def first_adapter(self) -> dict:
        return initial_adapter(self.service.ready.adapter_spec, 0)


def train(*about, **more):
    return lambda worker: worker.train(*about, **more)


def propose(*about):
    return lambda worker: worker.propose(*about)


def swap(*about):
    return lambda worker: worker.swap(*about)


def two_rounds(first: dict, second: dict | None) -> list:
    """Three segments each; segments 1 and 4 end in an exchange."""
    plan = []
    for number, adapter in ((0, first), (1, second)):
        n = 3 * number
        plan += [train(n, False, adapter, number), train(n + 1, True, round=number), propose(n + 1, number)]
        plan += [swap(n + 1, number), train(n + 2, False, round=number)]
    return plan


def all_of(worker: Worker) -> dict:
    state = worker.trainer.state()
    return {"adapter": state.adapter, "start": state.start, "optimizer": state.optimizer}


VARIANTS = {
    "ZeRO 0": ({}, {}),
    "ZeRO 2": ({}, {"stage": 2}),
    "targets and log-probabilities": (
        {"swap__rule": "match_global", "swap__prefer": "likely", "swap__off_policy": "ratio"},
        {},
    ),
    "no kept pool": ({"exchange__keep_pool": False}, {}),
    "method local": ({"method": "local"}, {}),
    "RoLoRA, ZeRO 2": ({"federation__aggregator": "rolora"}, {"stage": 2}),
    "FFA-LoRA and FedProx": ({"federation__aggregator": "ffa", "optimizer__proximal_mu": 10.0}, {}),
    "fewer ranks": ({}, {"lora_rank": 3}),
    "optimizer kept over rounds, at a rate that rises and falls": (
        {
            "optimizer__lr_scheduler_type": "cosine",
            "optimizer__warmup_ratio": 0.2,
            "optimizer__reset_each_round": False,
        },
        {"stage": 1},
    ),
}


def test_a_checkpoint_of_another_deepspeed_stage_is_left_aside_and_the_server_says_where_to_go_on(worker, job, caplog):
    """A site may change its own DeepSpeed file between two jobs of a run; the optimizer is then cut in another way."""
    before = worker(job, stage=0)
    before.train(0, False, before.first_adapter())
    after = worker(job, stage=2)
    assert "is of another job, model, lora_rank, number of processes or DeepSpeed stage" in caplog.text
    assert after.trainer.progress == SiteProgress()
    with pytest.raises(NotThere, match="was sent no adapter"):
        after.train(1, False)
    after.train(3, False, after.first_adapter(), round=1)
    assert after.trainer.progress == SiteProgress(1, 4)


def test_a_checkpoint_of_other_ranks_is_left_aside(worker, small_job):
    """Adam's moments of a rank that trained before would move it."""
    job = small_job(optimizer__reset_each_round=False)
    before = worker(job, recover=False)
    before.train(0, False, before.first_adapter())
    assert worker(job).trainer.progress == SiteProgress(0, 1)
    assert worker(job, lora_rank=3).trainer.progress == SiteProgress()


@pytest.mark.parametrize(("changes", "site"), VARIANTS.values(), ids=VARIANTS)
def test_a_new_worker_after_every_task_ends_in_the_same_bytes(worker, small_job, changes, site):
    """One worker for all; then one for each task, which knows only what is on disk."""
    job = small_job(**({"federation__rounds": 2, "federation__segments_per_round": 3} | changes))
    calm = worker(job, recover=False, **site)
    first = calm.first_adapter()
    second = None if changes.get("method") == "local" else {name: tensor * 0.5 for name, tensor in first.items()}
    plan = two_rounds(first, second)
    for act in plan:
        act(calm)
    expected, pool, delta = all_of(calm), calm.trainer.pool.completions(), calm.submit(1)
    assert not same(expected["adapter"], first)
    assert pool

    for number, act in enumerate(plan):
        stirred = worker(job, recover=number > 0, **site)  # the first one forgets what the calm one left
        act(stirred)
    assert stirred.trainer.pool.completions() == pool
    assert stirred.trainer.progress == calm.trainer.progress == SiteProgress(1, 6)
    for name, tensors in all_of(stirred).items():
        assert same(tensors, expected[name]), name
    assert same(stirred.submit(1), delta)


def test_a_round_begun_again_forgets_its_first_attempt(worker, small_job):
    """The server was lost in round 1 and its run is resumed: the round's beginning, pool and all, then the same
    bytes."""
    job = small_job(federation__rounds=2, federation__segments_per_round=3, optimizer__reset_each_round=False)
    one = worker(job, recover=False)
    first = one.first_adapter()
    plan = two_rounds(first, {name: tensor * 0.5 for name, tensor in first.items()})
    for act in plan:
        act(one)
    expected = all_of(one)
    for act in plan[5:8]:  # within the same worker: round 1 up to its proposal, then all of it
        act(one)
    assert one.trainer.progress == SiteProgress(1, 4, True)
    again = worker(job)  # a new one, that finds round 1 under way
    for act in plan[5:]:
        act(again)
    for name, tensors in all_of(again).items():
        assert same(tensors, expected[name]), name


def test_a_damaged_newest_checkpoint_costs_what_followed_the_one_before(worker, small_job):
    job = small_job(federation__segments_per_round=3)
    one = worker(job, recover=False)
    plan = two_rounds(one.first_adapter(), None)[:5]
    for act in plan[:4]:
        act(one)
    before = all_of(one)
    plan[4](one)
    newest = max(one.checkpoints.glob("*-segment-*"))
    (newest / "optimizer-0.safetensors").write_bytes(b"")
    again = worker(job)
    assert again.trainer.progress == SiteProgress(0, 2)
    assert same(all_of(again)["optimizer"], before["optimizer"])


def test_the_checkpoint_of_another_job_is_not_gone_on_from(worker, job, small_job):
    one = worker(job, recover=False)
    one.train(0, False, one.first_adapter())
    assert worker(small_job(seed=1)).trainer.progress == SiteProgress()
    assert worker(job).trainer.progress == SiteProgress(0, 1)


def test_a_worker_that_is_not_to_recover_forgets_what_another_left(worker, job):
    one = worker(job, recover=False)
    one.train(0, False, one.first_adapter())
    assert worker(job, recover=False).trainer.progress == SiteProgress()
    assert worker(job).trainer.progress == SiteProgress()


def test_a_worker_that_knows_nothing_of_the_round_needs_an_adapter(worker, job):
    new = worker(job)
    with pytest.raises(NotThere, match="knows nothing of round 0 and was sent no adapter"):
        new.train(1, False)
    assert not list(new.checkpoints.glob("*"))
    new.train(1, False, new.first_adapter())
    assert new.trainer.progress == SiteProgress(0, 2)


def test_one_that_missed_the_rounds_beginning_begins_it_when_it_is_back(worker, small_job):
    """It was away for round 1's first segment; what it kept is of round 0."""
    job = small_job(federation__rounds=2, federation__segments_per_round=3)
    one = worker(job, recover=False)
    for act in two_rounds(one.first_adapter(), None)[:5]:
        act(one)
    back = worker(job)
    with pytest.raises(NotThere, match="knows nothing of round 1"):
        back.train(4, False, round=1)
    assert back.trainer.progress == SiteProgress(0, 3)
    averaged = back.adapter(0.5)
    back.train(4, False, averaged, round=1)
    assert back.trainer.progress == SiteProgress(1, 5)
    assert same(back.trainer.state().start, averaged)


@pytest.mark.parametrize("task", ["propose", "swap", "submit"])
def test_what_is_asked_of_another_round_is_not_answered(worker, job, task):
    one = worker(job)
    about = {"propose": (3, 1), "swap": (3, 1), "submit": (1,)}[task]
    with pytest.raises(NotThere, match=r"has nothing of round 1 \(it is in none\)"):
        getattr(one, task)(*about)
    one.train(0, True, one.first_adapter())
    with pytest.raises(NotThere, match=r"has nothing of round 1 \(it is in round 0\); it goes on with the next"):
        getattr(one, task)(*about)


def test_without_the_rounds_beginning_and_without_an_adapter_there_is_no_way_back(worker, small_job):
    """A site that averages nothing is sent no adapter; its round's beginning is damaged."""
    job = small_job(method="local", federation__rounds=2, federation__segments_per_round=3)
    one = worker(job, recover=False)
    plan = two_rounds(first := one.first_adapter(), None)
    for act in plan[:7]:
        act(one)
    own = one.adapter()
    one.service._recovery.enter_round(2, False, first, "")  # back amid a round, with an adapter in case it had none
    assert same(one.adapter(), own)
    (one.checkpoints / "000001-begins" / "seal.json").unlink()
    with pytest.raises(NotThere, match="beginning of round 1 is gone, and no adapter came instead"):
        plan[5](one)


def test_without_the_rounds_beginning_the_adapter_will_do(worker, job, caplog):
    one = worker(job, recover=False)
    first = one.first_adapter()
    one.train(0, False, first)
    expected = one.adapter()
    (one.checkpoints / "000000-begins" / "seal.json").unlink()
    one.train(0, False, first)
    assert same(one.adapter(), expected)
    assert "no checkpoint of the beginning of round 0: from its adapter alone" in caplog.text


def test_a_checkpoint_that_cannot_be_written_costs_nothing_and_is_told(worker, job, tmp_path, caplog):
    one = worker(job, recover=False)
    one.train(0, False, one.first_adapter())
    one.checkpoints.rename(parked := tmp_path / "parked")
    one.checkpoints.write_text("a plain file where the folder should be")
    answer = one.train(1, False)
    assert [step.metrics.get("checkpoint/failed") for step in answer.steps] == [None, 1.0]
    assert "checkpoint not written, the one before is kept" in caplog.text
    one.checkpoints.unlink()
    parked.rename(one.checkpoints)
    assert worker(job).trainer.progress == SiteProgress(0, 1)
    answer = one.train(2, False)
    assert not any("checkpoint/failed" in step.metrics for step in answer.steps)
    assert worker(job).trainer.progress == SiteProgress(0, 3)


def test_the_ledgers_hash_is_kept_with_the_steps_it_paid_for(worker, job):
    one = worker(job, recover=False)
    one.train(0, False, one.first_adapter(), ledger="paid")
    assert worker(job).service.ready.ledger == "paid"


def test_a_new_worker_says_how_many_rounds_are_done(worker, small_job):
    job = small_job(federation__rounds=2, federation__segments_per_round=3)
    one = worker(job, recover=False)
    assert (one.service.ready.rounds_done, one.service.ready.private_problems) == (0, 16)
    first = one.first_adapter()
    for act in two_rounds(first, first)[:6]:
        act(one)
    assert worker(job).service.ready.rounds_done == 1
