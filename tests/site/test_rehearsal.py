"""What a rehearsal asks of the worker, what it makes of the answers, and that it cleans up after itself. (A real
worker is rehearsed in tests/commands/test_doctor.py.)"""

from __future__ import annotations

import pytest
import torch

from fedrlvr.site import rehearsal
from fedrlvr.site.rehearsal import rehearse
from fedrlvr.worker.supervisor import WorkerError

SPEC = {"m.0.q.lora_A.weight": [2, 5], "m.0.q.lora_B.weight": [3, 2]}


class StandIn:
    """A supervisor whose worker answers as a test says."""

    def __init__(self, *arguments):
        self.job, self.site, self.config, self.manifest = arguments
        self.adapter_spec, self.asked, self.stopped = SPEC, [], 0
        self.log_path = self.config.state_dir / "worker.log"
        self.steps, self.delta, self.words = 1.0, {name: torch.zeros(shape) for name, shape in SPEC.items()}, None

    def start(self):
        self.config.state_dir.mkdir(parents=True, exist_ok=True)
        if self.words is not None:
            self.log_path.write_text(self.words)
            raise WorkerError("worker died (exit code 1)")

    def request(self, message, tensors=None):
        self.asked.append((message, tensors))
        if message["task"] == "submit":
            return {}, self.delta
        return {"metrics": [{"optimizer_steps": self.steps, "completions": 4.0, "step_time": 0.25}]}, None

    def stop(self):
        self.stopped += 1


@pytest.fixture
def rehearsed(site_files, small_job, monkeypatch):
    """rehearsed(attributes of the stand-in, job settings) -> what `rehearse` returns; `rehearsed.workers` are the
    stand-ins."""
    manifest, configs = site_files({"site-1": ("A",)}, processes=2)

    def run(attributes: dict | None = None, **changes):
        def supervisor(*arguments):
            worker = StandIn(*arguments)
            vars(worker).update(attributes or {})
            run.workers.append(worker)
            return worker

        monkeypatch.setattr(rehearsal, "Supervisor", supervisor)
        return rehearse(small_job(**changes), configs["site-1"], manifest)

    run.workers, run.config = [], configs["site-1"]
    return run


def test_it_is_one_small_step_that_changes_nothing_with_everything_else_as_in_the_job(rehearsed):
    done = rehearsed(lora__r=3, grpo__num_iterations=3, grpo__num_minibatches=2, swap__keep_incorrect=3)
    (worker,) = rehearsed.workers
    assert (worker.job.grpo.num_generations, worker.job.grpo.prompts_per_step) == (2, 2)  # a prompt for each rank
    assert (worker.job.grpo.max_completion_length, worker.job.optimizer.learning_rate) == (3, 0.0)
    assert (worker.job.lora.r, worker.job.task, worker.job.swap.repeat) == (3, "protocol", True)
    assert [message["task"] for message, _ in worker.asked] == ["train", "submit"]
    sent = worker.asked[0][1]
    assert {name: list(tensor.shape) for name, tensor in sent.items()} == SPEC
    assert (done.parameters, done.completions, done.optimizer_steps, done.seconds) == (16, 4, 1, 0.25)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"steps": 0.0}, "no optimizer step was taken"),
        ({"delta": {"m.0.q.lora_A.weight": torch.tensor([0.5, -0.25])}}, "moved the adapter by 0.75"),
        ({"delta": {"m.0.q.lora_A.weight": torch.tensor([float("nan")])}}, "moved the adapter by nan"),
    ],
)
def test_a_step_that_was_not_taken_or_moved_something_is_an_error(rehearsed, attributes, said):
    with pytest.raises(WorkerError, match=said):
        rehearsed(attributes)
    assert rehearsed.workers[0].stopped == 1


def test_of_a_worker_that_died_the_last_five_lines_are_told(rehearsed):
    with pytest.raises(WorkerError) as caught:
        rehearsed({"words": "\n".join(f"line {i}" for i in range(8)) + "\n" + "x" * 1000 + "\n\n"})
    told = str(caught.value).splitlines()
    assert told[0] == "worker died (exit code 1)"
    assert told[1:] == [*(f"  line {i}" for i in range(4, 8)), "  " + "x" * 300]


@pytest.mark.parametrize("attributes", [{}, {"steps": 0.0}, {"words": "last"}])
def test_the_worker_is_ended_and_its_folder_removed_and_the_sites_own_not_touched(rehearsed, attributes):
    try:
        rehearsed(attributes)
    except WorkerError:
        assert attributes
    (worker,) = rehearsed.workers
    assert worker.stopped == 1
    assert not worker.config.state_dir.exists()
    assert worker.config.state_dir != rehearsed.config.state_dir
    assert not rehearsed.config.state_dir.exists()
