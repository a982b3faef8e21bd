"""What a rehearsal asks of the worker, what it makes of the answers, and that it cleans up after itself. (A real
worker is rehearsed in tests/commands/test_doctor.py.)"""

import json

import pytest
import torch
from tests.runs import spec_of

from fedrlvr.protocol.answers import Failure, StepsAnswer, SubmitAnswer
from fedrlvr.protocol.records import StepRecord
from fedrlvr.site import rehearsal, trial
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site.rehearsal import rehearse
from fedrlvr.site.trial import TrialFailed
from fedrlvr.site_config import COMPLETIONS
from fedrlvr.worker.setup import Ready, SetUp
from fedrlvr.worker.supervisor import Supervisor

SPEC = {"m.0.q.lora_A.weight": [2, 5], "m.0.q.lora_B.weight": [3, 2]}
STEP = {"reward": 0.0, "live_groups": 0.0, "groups": 2.0, "completions": 4.0, "step_time": 0.25}


class StandIn(Supervisor):
    """A supervisor whose worker answers as a test says."""

    def __init__(self, setup: SetUp):
        super().__init__(setup)
        self.setup, self.asked, self.stopped = setup, [], 0
        self.config = setup.site_config
        self.steps, self.delta = 1.0, {name: torch.zeros(shape) for name, shape in SPEC.items()}
        self.words, self.cannot, self.written, self.too_long = None, (), [], {}

    def start(self):
        self.config.state_dir.mkdir(parents=True, exist_ok=True)
        if self.words is not None:
            self.log.path.write_text(self.words)
            return Failure.of("worker died (exit code 1)")
        return Ready(adapter_spec=SPEC, private_problems=16, too_long=self.too_long, rounds_done=0, ledger="")

    def ask(self, request, tensors=None):
        self.asked.append((request, tensors))
        (self.config.state_dir / COMPLETIONS).write_text("".join(json.dumps(line) + "\n" for line in self.written))
        if request.task in self.cannot:
            return Failure.of("CUDA out of memory"), None
        if request.task == "submit":
            return SubmitAnswer(envelope=request.envelope), self.delta
        step = StepRecord.of("private", 0, STEP | {"optimizer_steps": self.steps})
        return StepsAnswer(envelope=request.envelope, steps=[step]), None

    def stop(self):
        self.stopped += 1


@pytest.fixture
def rehearsed(site_files, small_job, monkeypatch):
    """rehearsed(attributes of the stand-in, job settings) -> what `rehearse` returns; `rehearsed.workers` are the
    stand-ins."""
    _, configs = site_files({"site-1": ("A",)}, processes=2)

    def run(attributes: dict | None = None, **changes):
        def supervisor(setup):
            worker = StandIn(setup)
            vars(worker).update(attributes or {})
            run.workers.append(worker)
            return worker

        monkeypatch.setattr(trial, "Supervisor", supervisor)
        return rehearse(spec_of(small_job(**changes), configs), run.config)

    run.workers, run.config = [], configs["site-1"]
    return run


def test_it_is_one_small_step_that_changes_nothing_with_everything_else_as_in_the_job(rehearsed):
    done, _ = rehearsed(lora__r=3, grpo__num_iterations=3, grpo__num_minibatches=2, swap__keep_incorrect=3)
    (worker,) = rehearsed.workers
    job = worker.setup.spec.job
    assert (job.grpo.num_generations, job.grpo.prompts_per_step) == (2, 5)
    assert (job.grpo.max_completion_length, job.optimizer.learning_rate) == (20, 0.0)
    assert (job.lora.r, job.task, job.swap.repeat) == (3, "protocol", True)
    assert worker.setup.base_model == model_fingerprint(rehearsed.config.model_path)
    assert [request.task for request, _ in worker.asked] == ["train", "submit"]
    sent = worker.asked[0][1]
    assert {name: list(tensor.shape) for name, tensor in sent.items()} == SPEC
    assert done.text == "4 completions of at most 20 tokens and a step at learning rate 0 in 0.2 s, 16 LoRA parameters"


def line(reason: str, text: str = "so \\boxed{4}", truncated: bool = False) -> dict:
    reward = float(reason == "exact")
    return {"problem_id": "p1", "text": text, "reward": reward, "reason": reason, "truncated": truncated}


def test_each_completion_is_shown_with_its_end_and_the_verifiers_word(rehearsed):
    lines = [line("exact"), line("no box", "a\n" * 200 + "the end", truncated=True), line("wrong"), line("timeout")]
    _, written = rehearsed({"written": lines}, grpo__max_completion_length=30)
    first, *rest = written.text.split("\n")
    assert (written.status, first) == ("ok", "1 of 4 right, 3 with an answer, 1 cut off, 1 not verified")
    assert rest[0] == "p1: exact: so \\boxed{4}"
    assert rest[1].startswith("p1: no box, cut off: ...")
    assert rest[1].endswith("a a the end")
    assert len(rest[1]) < 200


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ([line("no box")] * 3 + [line("exact")], "prompt.examples"),
        ([line("exact", truncated=True)], "raise grpo.max_completion_length"),
        ([line("wrong")] * 10, "easier problems"),
        ([], "easier problems"),
    ],
)
def test_completions_that_teach_little_are_a_warning(rehearsed, lines, remedy):
    _, written = rehearsed({"written": lines})
    assert written.status == "warning"
    assert remedy in written.remedy


def test_the_completions_are_there_where_the_site_keeps_no_log(rehearsed):
    rehearsed.config = rehearsed.config.model_copy(update={"completion_log_mb": 0})
    rehearsed()
    assert rehearsed.workers[0].config.completion_log_mb == 1


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"steps": 0.0}, "no optimizer step was taken"),
        ({"cannot": ("train",)}, "CUDA out of memory"),
        ({"cannot": ("submit",)}, "CUDA out of memory"),
        ({"delta": {"m.0.q.lora_A.weight": torch.tensor([0.5, -0.25])}}, "moved the adapter by 0.75"),
        ({"delta": {"m.0.q.lora_A.weight": torch.tensor([float("nan")])}}, "moved the adapter by nan"),
    ],
)
def test_a_step_that_was_not_taken_or_moved_something_is_an_error(rehearsed, attributes, said):
    with pytest.raises(TrialFailed, match=said):
        rehearsed(attributes)
    assert rehearsed.workers[0].stopped == 1


def test_a_worker_that_listens_to_others_is_a_warning(rehearsed, monkeypatch):
    monkeypatch.setattr(rehearsal, "reachable_ports", lambda process: ["0.0.0.0 port 29400", ":: port 417"])
    done, _ = rehearsed()
    assert done.status == "warning"
    assert done.text.endswith("other machines can connect to the worker: 0.0.0.0 port 29400, :: port 417")
    assert done.remedy.startswith("worker.launch: leave it out on one machine")


def test_prompts_that_are_too_long_are_counted(rehearsed):
    done, _ = rehearsed({"too_long": {"private": 2, "test": 1}}, grpo__max_prompt_length=100)
    assert done.status == "warning"
    assert done.text.endswith("; prompts of more than 100 tokens: 2 private, 1 test")
    assert "private and public ones are left out, others count as not solved" in done.remedy


def test_completions_that_fill_the_model_are_refused(rehearsed):
    with pytest.raises(ValueError, match="is 600, which leaves no room for a prompt in the 512 positions"):
        rehearsed(grpo__max_completion_length=600)


def test_of_a_worker_that_died_the_last_five_lines_are_told(rehearsed):
    with pytest.raises(TrialFailed) as caught:
        rehearsed({"words": "\n".join(f"line {i}" for i in range(8)) + "\n" + "x" * 1000 + "\n\n"})
    told = str(caught.value).splitlines()
    assert told[0] == "worker died (exit code 1)"
    assert told[1:] == [*(f"  line {i}" for i in range(4, 8)), "  " + "x" * 300]


@pytest.mark.parametrize("attributes", [{}, {"steps": 0.0}, {"words": "last"}, {"cannot": ("submit",)}])
def test_the_worker_is_ended_and_its_folder_removed_and_the_sites_own_not_touched(rehearsed, attributes):
    try:
        rehearsed(attributes)
    except TrialFailed:
        assert attributes
    (worker,) = rehearsed.workers
    assert worker.stopped == 1
    assert not worker.config.state_dir.exists()
    assert worker.config.state_dir != rehearsed.config.state_dir
    assert not rehearsed.config.state_dir.exists()


@pytest.mark.parametrize(("least", "refused"), [(16, False), (17, True)])
def test_problems_that_are_too_long_do_not_count_for_the_policy(rehearsed, tmp_path, least, refused):
    """The worker has 16 that fit."""
    (tmp_path / "policy.yaml").write_text(f"adapters: {{min_problems: {least}}}")
    rehearsed.config = rehearsed.config.model_copy(update={"policy": tmp_path / "policy.yaml"})
    plenty = {"grpo__prompts_per_step": 32, "swap__keep_incorrect": 0, "swap__repeat": False}
    _, _, *more = rehearsed({"too_long": {"private": 3}}, **plenty)
    assert [(found.about, found.status) for found in more] == [("admission", "failed")] * refused
    assert all("this site has fewer" in found.text for found in more)
    assert len(rehearsed({"too_long": {"public": 3}}, **plenty)) == 2
