"""A worker in the test's own process: it answers as the one in a process of its own does, and can be lost and started
again as that one can."""

from bdb import BdbQuit

import psutil
import pytest
import torch
from tests.runs import spec_of

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.data.problems import read_problems
from fedrlvr.learning.ranks import Ranks
from fedrlvr.processes import reachable_ports
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import Request
from fedrlvr.tasks import TASKS
from fedrlvr.worker.checkpoint import NotThere, SiteCheckpoints
from fedrlvr.worker.in_process import THREADS, InProcessWorker
from fedrlvr.worker.setup import Ready, SetUp
from fedrlvr.worker.supervisor import Supervisor

PRIVATE = Segment(0, 1, ())
BROKEN = Segment(1, 2, ("no-such-problem",))  # its private steps are taken before the error


@pytest.fixture
def here(set_up, job, requests_of):
    """here(...) -> (worker, set-up, requests): a worker in this process, which is not started yet."""
    workers = []

    def make(job=job, **changes) -> tuple[InProcessWorker, SetUp, object]:
        setup = set_up(job, **changes)
        workers.append(InProcessWorker(setup))
        return workers[-1], setup, requests_of(setup.spec)

    yield make
    for worker in workers:
        worker.stop()


def test_it_opens_no_port_to_other_machines(here):
    worker, _, _ = here()
    assert isinstance(worker.start(), Ready)
    assert reachable_ports(psutil.Process()) == []


def begin(worker, requests, ready, segment=PRIVATE):
    assert isinstance(ready, Ready), ready
    return worker.ask(requests.train(segment, begin_round=True), initial_adapter(ready.adapter_spec, 0))[0]


def without_time(steps) -> list[tuple]:
    return [(step.kind, step.segment, step.metrics | {"step_time": None}) for step in steps]


def is_free(setup: SetUp) -> bool:
    """Whether another worker may work on this run."""
    other = SiteCheckpoints(setup.site_config.state_dir / "checkpoints", setup.spec.run, "", Ranks())
    try:
        other.claim(patience=0.0)
    except NotThere:
        return False
    other.release()
    return True


def test_it_computes_with_the_threads_that_the_site_has(here):
    """The run computes with one thread between two requests, so that the server's sums have one order."""
    for threads, expected in ((2, 2), (None, THREADS)):
        worker, _, requests = here(threads=threads)
        ready = worker.start()
        torch.set_num_threads(1)
        assert begin(worker, requests, ready)
        assert torch.get_num_threads() == expected
        worker.stop()


def test_who_leaves_the_debugger_leaves_the_set_up(here, monkeypatch):
    def leave(*arguments):
        raise BdbQuit

    monkeypatch.setattr("fedrlvr.worker.service.build_trainer", leave)
    with pytest.raises(BdbQuit):
        here()[0].start()


@pytest.mark.slow
def test_it_answers_as_a_worker_process_does(set_up, small_job, requests_of, right_answers, tmp_path):
    """Train, propose, swap, submit and validate: the same records, the same bytes."""
    setup = set_up(small_job(grpo__num_generations=16), labels=("A", "B", "C", "D"))
    requests, segment = requests_of(setup.spec), Segment(0, 2, setup.spec.public_ids[:4])
    told = []
    for number, kind in enumerate((InProcessWorker, Supervisor)):
        config = setup.site_config.model_copy(update={"state_dir": tmp_path / f"state-{number}"})
        worker = kind(setup.model_copy(update={"site_config": config}))
        try:
            ready = worker.start()
            theta = initial_adapter(ready.adapter_spec, 0)
            before, _ = worker.ask(requests.validate(round=-1))
            trained, _ = worker.ask(requests.train(segment, exchange=True, begin_round=True), theta, "paid")
            proposed, _ = worker.ask(requests.propose(segment))
            answers = right_answers(public_problems(setup, segment))
            swapped, _ = worker.ask(requests.swap(segment, answers))
            submitted, delta = worker.ask(requests.submit())
            scores, _ = worker.ask(requests.validate(), theta)
        finally:
            worker.stop(grace=30)
        assert [step.kind for step in trained.steps + swapped.steps] == ["private", "private", "public"]
        assert swapped.steps[0].metrics["swap/completions"] > 0
        assert proposed.responses
        assert any(bool(tensor.any()) for tensor in delta.values())
        saved = (config.state_dir / "adapter" / "adapter_model.safetensors").read_bytes()
        steps = without_time([*trained.steps, *swapped.steps])
        told.append((ready, before, steps, proposed, submitted, as_safetensors(delta), scores, saved))
    assert told[0] == told[1]


def public_problems(setup: SetUp, segment: Segment):
    problems = {p.id: p for p in read_problems(setup.site_config.public_problems, TASKS["protocol"])}
    return [problems[name] for name in segment.public_ids]


def test_after_an_error_in_a_step_it_drops_its_trainer_and_goes_on_from_the_checkpoint(here, small_job):
    """The private steps of the broken segment were taken, and must not count: the next segment ends where it does
    without the error."""
    job = small_job(grpo__num_generations=32)  # so that every step has groups to learn from
    deltas = []
    for disturbed in (False, True):
        worker, _, requests = here(job, labels=("A", "B", "C", "D"))
        begin(worker, requests, worker.start())
        if disturbed:
            service = worker._service
            before = service.trainer.engine.adapter()
            failure, nothing = worker.ask(requests.train(BROKEN))
            assert (failure, nothing) == (Failure(reason="KeyError: 'no-such-problem'"), None)
            assert any(not torch.equal(before[n], t) for n, t in service.trainer.engine.adapter().items())
            assert not worker.running
            assert worker.ask(requests.submit()) == (Failure(reason="the worker is not running"), None)
            assert isinstance(worker.start(), Ready)
            assert worker.running
        # Without an adapter: a worker that knew nothing of round 0 could not go on in it.
        assert worker.ask(requests.train(Segment(1, 1, ())))[0].steps
        deltas.append(as_safetensors(worker.ask(requests.submit())[1]))
        worker.stop()
    assert deltas[0] == deltas[1]


def test_an_error_that_moved_nothing_is_answered_and_the_worker_stays(here):
    worker, _, requests = here()
    ready = worker.start()
    failure, _ = worker.ask(requests.submit())
    assert failure.reason.startswith("NotThere: the worker has nothing of round 0 (it is in none)")
    failure, _ = worker.ask(requests.train(Segment(1, 1, ())))
    assert failure.reason.startswith("NotThere: the worker knows nothing of round 0 and was sent no adapter")
    assert begin(worker, requests, ready).steps
    failure, _ = worker.ask(requests.propose(BROKEN))
    assert failure == Failure(reason="KeyError: 'no-such-problem'")
    assert worker.running
    assert worker.ask(requests.submit())[1]


def test_what_is_no_request_is_answered_by_an_error(here):
    class Dance(Request):
        task = "dance"

    worker, setup, _ = here()
    worker.start()
    failure, _ = worker.ask(Dance(envelope=Envelope.here(setup.spec.public_sha256)))
    assert failure == Failure(reason="ValueError: unknown task 'dance'")
    assert worker.running


def test_bad_input_at_the_site_is_the_answer_to_the_start(here, tmp_path):
    worker, setup, requests = here(model_path=tmp_path / "nowhere")
    failure = worker.start()
    assert failure.reason.startswith("FileNotFoundError: model_path: no config.json in nowhere; expected a")
    assert not worker.running
    assert worker.ask(requests.submit())[0] == Failure(reason="the worker is not running")
    assert is_free(setup)


def test_the_run_is_its_own_until_it_stops(here):
    worker, setup, requests = here()
    ready = worker.start()
    assert not is_free(setup)
    worker.stop()
    assert is_free(setup)
    worker.start()
    assert not is_free(setup)
    begin(worker, requests, ready)
    worker.ask(requests.train(BROKEN))
    assert is_free(setup)  # lost with its trainer


def test_only_a_worker_that_has_time_leaves_its_adapter(here):
    worker, setup, _ = here()
    adapter = setup.site_config.state_dir / "adapter" / "adapter_model.safetensors"
    worker.start()
    worker.stop()
    assert not adapter.exists()
    worker.start()
    worker.stop(grace=1)
    assert adapter.is_file()
    worker.stop(grace=1)  # there is none any more


def test_an_adapter_that_cannot_be_saved_does_not_keep_it_from_stopping(here, caplog):
    worker, setup, _ = here()
    worker.start()
    (setup.site_config.state_dir / "adapter").write_text("a plain file where the folder should be")
    worker.stop(grace=1)
    assert "site-1: its adapter was not saved" in caplog.text
    assert not worker.running
    assert is_free(setup)


def test_a_fault_of_ours_in_saving_is_not_hidden(here, monkeypatch):
    worker, setup, _ = here()
    worker.start()
    monkeypatch.setattr(worker._service.trainer.engine, "save_adapter", lambda path, origin: path.no_such_attribute)
    with pytest.raises(AttributeError):
        worker.stop(grace=1)
    assert is_free(setup)


def test_a_first_start_begins_anew_and_a_later_one_goes_on(here, tmp_path):
    """What an earlier job left is forgotten, unless the run is resumed; what this worker did is not."""
    run = {"run": "0123456789abcdef"}
    worker, _, requests = here(run=run)
    begin(worker, requests, worker.start())
    assert begin_is_known(worker, requests)
    worker.start()
    assert begin_is_known(worker, requests)
    worker.stop()
    resumed, _, requests = here(run=run, recover=True)
    resumed.start()
    assert begin_is_known(resumed, requests)
    resumed.stop()
    new, _, requests = here(run=run)
    new.start()
    assert not begin_is_known(new, requests)


def begin_is_known(worker: InProcessWorker, requests) -> bool:
    return not isinstance(worker.ask(requests.submit())[0], Failure)


@pytest.mark.parametrize("name", ["public", "test"])
def test_another_set_than_the_jobs_is_a_refusal_with_both_hashes_and_no_path(here, name):
    worker, setup, _ = here(run={f"{name}_sha256": "0000"})
    failure, own = worker.start(), getattr(spec_of(setup.spec.job, {"": setup.site_config}), f"{name}_sha256")
    assert failure == Failure(
        reason=f"{name}_problems differs: the job is for manifest hash 0000, this site has {own}; get the {name} file "
        "that the consortium agreed on",
        would_not=True,
    )


def test_a_file_that_cannot_be_used_is_no_refusal(here):
    worker, setup, _ = here()
    setup.site_config.private_problems.write_text("{}\n")
    failure = worker.start()
    assert failure.reason.startswith("ProblemFileError: ")
    assert not failure.would_not
