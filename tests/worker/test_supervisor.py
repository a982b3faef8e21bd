"""A real worker process: its answers, its death, and that nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.gone import gone

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Segment
from fedrlvr.worker import worker_log
from fedrlvr.worker.setup import Ready
from fedrlvr.worker.supervisor import Aborted, Supervisor

pytestmark = pytest.mark.slow  # every test starts a process that imports torch, transformers and DeepSpeed

PRIVATE = Segment(0, 1, ())


@pytest.fixture
def start(set_up, job, supervised):
    """start(job, site's settings): as `supervised`."""

    def make(job=job, aborted=lambda: False, **changes):
        return supervised(set_up(job, **changes), aborted)

    return make


def train(supervisor: Supervisor, ready: Ready, requests, segment=PRIVATE):
    """Ask for a segment of round 0, which begins where the worker knows nothing of it."""
    assert isinstance(ready, Ready), ready
    return supervisor.ask(requests.train(segment), initial_adapter(ready.adapter_spec, 0))[0]


def test_a_worker_is_ready_serves_a_round_and_leaves_its_adapter(start, tmp_path):
    supervisor, ready, requests = start()
    assert supervisor.running
    assert (ready.private_problems, ready.rounds_done, ready.ledger) == (16, 0, "")
    theta = initial_adapter(ready.adapter_spec, seed=0)
    request = requests.train(PRIVATE, begin_round=True)
    answer, nothing = supervisor.ask(request, theta)
    assert [step.kind for step in answer.steps] == ["private"]
    assert (answer.envelope, nothing) == (request.envelope, None)
    _, delta = supervisor.ask(requests.submit())
    assert {n: list(t.shape) for n, t in delta.items()} == ready.adapter_spec
    answer, nothing = supervisor.ask(requests.validate(), theta)
    assert answer.scores.test["A"]["problems"] == 4
    assert (answer.adapter_spec, answer.base_model, nothing) == (ready.adapter_spec, "0" * 16, None)
    supervisor.stop(grace=20)
    state = tmp_path / "sites" / "site-1"
    assert (state / "adapter" / "adapter_model.safetensors").is_file()
    made = [*state.glob("adapter/*"), *(state / "checkpoints").rglob("*")]  # by the worker
    assert len(made) > 5
    assert {path for path in made if path.stat().st_mode & 0o077} == set()


def test_another_test_set_than_the_jobs_is_a_refusal(set_up, job):
    supervisor = Supervisor(set_up(job, run={"test_sha256": "0000"}))
    try:
        failure = supervisor.start()
    finally:
        supervisor.stop()
    assert failure.would_not
    assert failure.reason.startswith("test_problems differs: the job is for manifest hash 0000, this site has ")


def test_an_error_is_answered_and_the_worker_stays(start):
    supervisor, ready, requests = start()
    failure, _ = supervisor.ask(requests.submit())
    reason = "NotThere: the worker has nothing of round 0 (it is in none); it goes on with the next segment"
    assert failure == Failure(reason=reason)
    train(supervisor, ready, requests)
    failure, _ = supervisor.ask(requests.propose(replace(PRIVATE, public_ids=("no-such-problem",))))
    assert failure == Failure(reason="KeyError: 'no-such-problem'")
    assert supervisor.running
    assert supervisor.ask(requests.submit())[1]


def test_after_an_error_in_a_step_the_worker_ends_and_the_next_goes_on_from_the_checkpoint(start):
    """A step may have left the policy half updated."""
    supervisor, ready, requests = start()
    train(supervisor, ready, requests)
    _, delta = supervisor.ask(requests.submit())
    bad = Segment(1, 1, ("no-such-problem",))
    failure, _ = supervisor.ask(requests.train(bad))
    assert failure == Failure(reason="KeyError: 'no-such-problem'")
    assert not supervisor.running
    assert supervisor.ask(requests.submit())[0] == Failure(reason="the worker is not running")
    assert isinstance(supervisor.start(), Ready)
    again = supervisor.ask(requests.submit())[1]
    assert again.keys() == delta.keys()
    assert all(torch.equal(again[name], delta[name]) for name in delta)


def test_a_killed_worker_is_an_error_and_can_be_started_again(start):
    supervisor, ready, requests = start()
    os.kill(supervisor._process.pid, signal.SIGKILL)
    failure = train(supervisor, ready, requests)
    assert failure.reason == (
        "worker died (exit code -9): killed by signal 9, probably because memory ran out; lower micro_batch_size (64) "
        "or generation_batch_size in the site's file; see worker.log"
    )
    assert not supervisor.running
    assert train(supervisor, supervisor.start(), requests).steps


def test_a_worker_that_hangs_past_its_deadline_is_ended(start, small_job):
    supervisor, ready, requests = start(small_job(federation__step_deadline=0.5))
    os.kill(supervisor._process.pid, signal.SIGSTOP)
    failure = train(supervisor, ready, requests)
    assert failure.reason.startswith("worker gave no answer within federation.step_deadline = 0.5 s")
    assert not supervisor.running


def test_an_abort_reaches_a_working_worker(start):
    flag = []
    supervisor, ready, requests = start(aborted=lambda: bool(flag))
    os.kill(supervisor._process.pid, signal.SIGSTOP)
    flag.append(True)
    began = time.monotonic()
    with pytest.raises(Aborted):
        train(supervisor, ready, requests)
    assert time.monotonic() - began < 5
    assert not supervisor.running


def test_an_abort_reaches_a_worker_that_is_starting(set_up, job, left):
    supervisor = Supervisor(set_up(job), aborted=lambda: True)
    with pytest.raises(Aborted):
        supervisor.start()
    assert not supervisor.running
    assert not left()


def test_bad_input_at_the_site_is_the_answer_to_the_set_up(start, tmp_path):
    """Without the folders, which are the site's business."""
    supervisor, failure, _ = start(model_path=tmp_path / "nowhere")
    assert failure.reason.startswith("FileNotFoundError: model_path: no config.json in nowhere; expected a")
    assert not supervisor.running


def test_a_worker_that_dies_at_start_says_so(start, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch on this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    supervisor, failure, _ = start()
    assert failure.reason.startswith("worker died while starting: no torch on this machine (exit code 1)")
    assert not supervisor.running


def test_one_that_dies_without_a_word_is_not_given_an_earlier_workers(start, tmp_path, monkeypatch):
    """That one may have seen problems, and what is said here is sent."""
    (tmp_path / "torch.py").write_text("import os; os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "sites" / "site-1" / "worker.log"
    log.parent.mkdir(parents=True)
    log.write_text("KeyError: 'a patient of 1951'\n")
    _, failure, _ = start()
    assert failure.reason.startswith("worker died while starting: (nothing) (exit code 1)")


def test_the_log_of_a_worker_at_work_is_bounded(start, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_log, "LIMIT", 10)
    supervisor, ready, requests = start()
    assert train(supervisor, ready, requests).steps
    assert (tmp_path / "sites" / "site-1" / "worker.log.1").stat().st_size > 10


def test_the_worker_dies_with_its_supervisor(set_up, job):
    """The supervising process is killed outright; the worker must notice by itself."""
    script = textwrap.dedent(f"""
        import os, signal
        from fedrlvr.worker.setup import SetUp
        from fedrlvr.worker.supervisor import Supervisor
        supervisor = Supervisor(SetUp.model_validate_json({set_up(job).model_dump_json()!r}))
        print(type(supervisor.start()).__name__, supervisor._process.pid, supervisor._meeting_place.name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    said, worker, place = done.stdout.split()
    assert said == "Ready", done.stderr
    deadline = time.monotonic() + 10
    while not gone(int(worker)):
        assert time.monotonic() < deadline, "the worker outlived its supervisor"
        time.sleep(0.1)
    assert not Path(place).exists()
