"""A worker that was lost: the next one goes on as if nothing had been, or says what it lacks. With the real trainer."""

from __future__ import annotations

import pytest
import torch

from fedrlvr.learning.ranks import Ranks
from fedrlvr.worker.checkpoint import NotThere, SiteCheckpoints, SiteProgress
from fedrlvr.worker.recovery import Recovery
from fedrlvr.worker.worker import serve

RUN = "0123456789abcdef"


@pytest.fixture
def worker(make_trainer, tmp_path):
    """A worker's recovery around a new trainer; all of a test have the same disk."""

    def start(job, recover=True, identity="identity", **changes) -> Recovery:
        checkpoints = SiteCheckpoints(tmp_path / "checkpoints", RUN, identity, Ranks())
        recovery = Recovery(make_trainer(job, **changes), checkpoints)
        recovery.trainer.progress = SiteProgress()  # make_trainer has begun round 0, which a worker does when asked
        if recover:
            recovery.recover()
        return recovery

    return start


def public_ids(recovery: Recovery) -> list[str]:
    return list(recovery.trainer.problems.public)


def segment(recovery: Recovery, index: int) -> dict:
    ids = public_ids(recovery)
    return {"index": index, "private_steps": 1, "public_ids": ids[4 * (index % 2) :][:4]}


def answers(recovery: Recovery, index: int) -> list[dict]:
    """Right answers of two other sites."""
    trainer, found = recovery.trainer, []
    for name in segment(recovery, index)["public_ids"]:
        text = trainer.rollouts.task.gold_completion(trainer.problems.public[name])
        found += [{"problem_id": name, "text": text, "site": site, "variant": 0} for site in ("site-8", "site-9")]
    return found


def adapter_of(recovery: Recovery, factor=1.0) -> dict:
    return {name: tensor * factor for name, tensor in recovery.trainer.engine.adapter().items()}


def train(index, exchange, adapter=None, round=0):
    def act(recovery):
        message = {"task": "train", "segments": [segment(recovery, index)], "exchange": exchange, "round": round}
        serve(recovery, message | {"begin_round": index % 3 == 0}, adapter)

    return act


def propose(index, round=0):
    return lambda r: serve(r, {"task": "propose", "segments": [segment(r, index)], "round": round}, None)


def swap(index, round=0):
    def act(recovery):
        message = {"task": "swap", "segments": [segment(recovery, index)], "responses": answers(recovery, index)}
        serve(recovery, message | {"round": round}, None)

    return act


def two_rounds(first: dict, second: dict | None) -> list:
    """Three segments each; segments 1 and 4 end in an exchange."""
    plan = []
    for number, adapter in ((0, first), (1, second)):
        n = 3 * number
        plan += [train(n, False, adapter, number), train(n + 1, True, round=number), propose(n + 1, number)]
        plan += [swap(n + 1, number), train(n + 2, False, round=number)]
    return plan


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def all_of(recovery: Recovery) -> dict:
    state = recovery.trainer.state()
    return {"adapter": state.adapter, "start": state.start, "optimizer": state.optimizer}


VARIANTS = {
    "ZeRO 0": ({}, {}),
    "ZeRO 2": ({}, {"stage": 2}),
    "no kept pool": ({"exchange__keep_pool": False}, {}),
    "optimizer kept over rounds": ({"optimizer__reset_each_round": False}, {"stage": 1}),
    "method local": ({"method": "local"}, {}),
}


@pytest.mark.parametrize(("changes", "site"), VARIANTS.values(), ids=VARIANTS)
def test_a_new_worker_after_every_task_ends_in_the_same_bytes(worker, small_job, tmp_path, changes, site):
    """One worker for all; then one for each task, which knows only what is on disk."""
    job = small_job(**({"federation__rounds": 2, "federation__segments_per_round": 3} | changes))
    calm = worker(job, recover=False, **site)
    first = adapter_of(calm)
    second = None if changes.get("method") == "local" else adapter_of(calm, 0.5)
    plan = two_rounds(first, second)
    for act in plan:
        act(calm)
    expected, pool = all_of(calm), calm.trainer.pool.answers()
    assert not same(expected["adapter"], first)
    assert pool

    calm.checkpoints.clear()
    for act in plan:
        stirred = worker(job, **site)
        act(stirred)
    assert stirred.trainer.pool.answers() == pool
    assert stirred.trainer.progress == calm.trainer.progress == SiteProgress(1, 6)
    for name, tensors in all_of(stirred).items():
        assert same(tensors, expected[name]), name
    assert same(stirred.trainer.submit().delta, calm.trainer.submit().delta)


def test_a_round_begun_again_forgets_its_first_attempt(worker, small_job):
    """The server was lost in round 1 and its run is resumed: the round's beginning, pool and all, then the same
    bytes."""
    job = small_job(federation__rounds=2, federation__segments_per_round=3, optimizer__reset_each_round=False)
    one = worker(job, recover=False)
    plan = two_rounds(adapter_of(one), adapter_of(one, 0.5))
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
    plan = two_rounds(adapter_of(one), None)[:5]
    for act in plan[:4]:
        act(one)
    before = all_of(one)
    plan[4](one)
    newest = max(one.checkpoints.folder.glob("*-segment-*"))
    (newest / "optimizer-0.safetensors").write_bytes(b"")
    again = worker(job)
    assert again.trainer.progress == SiteProgress(0, 2)
    assert same(all_of(again)["optimizer"], before["optimizer"])


def test_the_checkpoint_of_another_job_is_not_gone_on_from(worker, job):
    one = worker(job, recover=False)
    train(0, False, adapter_of(one))(one)
    assert worker(job, identity="another").trainer.progress == SiteProgress()
    assert worker(job).trainer.progress == SiteProgress(0, 1)


def test_a_worker_that_knows_nothing_of_the_round_needs_an_adapter(worker, job):
    new = worker(job)
    with pytest.raises(NotThere, match="knows nothing of round 0 and was sent no adapter"):
        train(1, False)(new)
    assert new.checkpoints.latest() is None
    train(1, False, adapter_of(new))(new)
    assert new.trainer.progress == SiteProgress(0, 2)


def test_one_that_missed_the_rounds_beginning_begins_it_when_it_is_back(worker, small_job):
    """It was away for round 1's first segment; what it kept is of round 0."""
    job = small_job(federation__rounds=2, federation__segments_per_round=3)
    one = worker(job, recover=False)
    for act in two_rounds(adapter_of(one), None)[:5]:
        act(one)
    back = worker(job)
    with pytest.raises(NotThere, match="knows nothing of round 1"):
        train(4, False, round=1)(back)
    assert back.trainer.progress == SiteProgress(0, 3)
    averaged = adapter_of(back, 0.5)
    train(4, False, averaged, round=1)(back)
    assert back.trainer.progress == SiteProgress(1, 5)
    assert same(back.trainer.state().start, averaged)


@pytest.mark.parametrize("task", ["propose", "swap", "submit"])
def test_what_is_asked_of_another_round_is_not_answered(worker, job, task):
    one = worker(job)
    submit = lambda r: serve(r, {"task": "submit", "round": 1}, None)  # noqa: E731
    asked = {"propose": propose(3, 1), "swap": swap(3, 1), "submit": submit}[task]
    with pytest.raises(NotThere, match=r"has nothing of round 1 \(it is in none\)"):
        asked(one)
    train(0, True, adapter_of(one))(one)
    with pytest.raises(NotThere, match=r"has nothing of round 1 \(it is in round 0\); it goes on with the next"):
        asked(one)


def test_without_the_rounds_beginning_and_without_an_adapter_there_is_no_way_back(worker, small_job):
    """A site that averages nothing is sent no adapter; its round's beginning is damaged."""
    job = small_job(method="local", federation__rounds=2, federation__segments_per_round=3)
    one = worker(job, recover=False)
    plan = two_rounds(first := adapter_of(one), None)
    for act in plan[:7]:
        act(one)
    own = adapter_of(one)
    one.enter_round(2, False, first, "")  # back amid a round, with an adapter for the case that it had none
    assert same(adapter_of(one), own)
    (one.checkpoints.folder / "000001-begins" / "seal.json").unlink()
    with pytest.raises(NotThere, match="beginning of round 1 is gone, and no adapter came instead"):
        plan[5](one)


def test_without_the_rounds_beginning_the_adapter_will_do(worker, job, capsys):
    one = worker(job, recover=False)
    (begin := train(0, False, adapter_of(one)))(one)
    expected = adapter_of(one)
    (one.checkpoints.folder / "000000-begins" / "seal.json").unlink()
    begin(one)
    assert same(adapter_of(one), expected)
    assert "no checkpoint of the beginning of round 0: from its adapter alone" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_costs_nothing_and_is_told(worker, job, tmp_path, capsys):
    one = worker(job, recover=False)
    train(0, False, adapter_of(one))(one)
    one.checkpoints.folder.rename(parked := tmp_path / "parked")
    one.checkpoints.folder.write_text("a plain file where the folder should be")
    message = {"task": "train", "segments": [segment(one, 1)], "exchange": False, "round": 0, "begin_round": False}
    answer, _ = serve(one, message, None)
    assert [record.get("checkpoint/failed") for record in answer["metrics"]] == [None, 1.0]
    assert "checkpoint not written, the one before is kept" in capsys.readouterr().err
    one.checkpoints.folder.unlink()
    parked.rename(one.checkpoints.folder)
    assert worker(job).trainer.progress == SiteProgress(0, 1)
    answer, _ = serve(one, message | {"segments": [segment(one, 2)]}, None)
    assert not any("checkpoint/failed" in record for record in answer["metrics"])
    assert worker(job).trainer.progress == SiteProgress(0, 3)


def test_the_ledgers_hash_is_kept_with_the_steps_it_paid_for(worker, job):
    one = worker(job, recover=False)
    message = {"task": "train", "segments": [segment(one, 0)], "exchange": False, "round": 0, "begin_round": True}
    serve(one, message | {"ledger": "paid"}, adapter_of(one))
    assert worker(job).ledger == "paid"
