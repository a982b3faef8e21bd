"""ZeRO stage 3: no rank has the weights, and two ranks do what they do with whole ones."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.data.problems import read_problems
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Segment
from fedrlvr.tasks import TASKS
from fedrlvr.worker.setup import Ready

RUN = {"run": "0123456789abcdef"}


@pytest.fixture
def site(set_up, small_job, supervised, right_answers):
    """site(ZeRO stage, recover): two ranks of a site, ready to be asked. 3 problems make unequal work for them. More
    settings of the job are as in `small_job`."""

    def start(stage: int, recover: bool = False, processes: int = 2, **changes) -> Site:
        more = {"grpo__prompts_per_step": 3, "optimizer__learning_rate": 1e-4, "grpo__num_iterations": 2}
        job = small_job(**more | {"grpo__num_generations": 8, "grpo__beta": 0.01} | changes)
        setup = set_up(job, labels=("A", "B", "C", "D"), recover=recover, run=RUN, stage=stage, processes=processes)
        return Site(*supervised(setup), right_answers)

    return start


class Site:
    def __init__(self, supervisor, ready, requests, right_answers):
        assert isinstance(ready, Ready), ready
        self.supervisor, self.ready, self.requests, self._right = supervisor, ready, requests, right_answers
        self.segment = Segment(0, 1, requests.spec.public_ids[:3])

    def ask(self, request, tensors=None):
        answer, tensors = self.supervisor.ask(request, tensors)
        assert not isinstance(answer, Failure), answer
        return tensors if tensors is not None else answer

    def train(self):
        adapter = initial_adapter(self.ready.adapter_spec, 0)
        return self.ask(self.requests.train(self.segment, exchange=True, begin_round=True), adapter).steps

    def exchange(self):
        """Propose and swap; returns the step and the submitted difference."""
        offers = self.ask(self.requests.propose(self.segment)).responses
        assert {offer.problem_id for offer in offers} <= {*self.segment.public_ids}
        answers = self._right(self._problems(), ("site-8",))
        (step,) = self.ask(self.requests.swap(self.segment, answers)).steps
        return step, self.ask(self.requests.submit())

    def _problems(self):
        problems = read_problems(self.supervisor._config.public_problems, TASKS["protocol"])
        return [problem for problem in problems if problem.id in self.segment.public_ids]


def close(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_steps_of_two_ranks_without_whole_weights_are_those_with_them_also_after_a_restart(site):
    whole = site(0)
    (expected,) = whole.train()
    step, delta = whole.exchange()
    scores = whole.ask(whole.requests.validate()).scores
    whole.supervisor.stop()
    assert max(float(tensor.abs().max()) for tensor in delta.values()) > 1e-4

    divided = site(3)
    (private,) = divided.train()
    for name in ("reward", "completions/mean_length", "optimizer_steps"):
        assert private.metrics[name] == expected.metrics[name]
    for name in ("loss", "grad_norm", "kl"):
        assert private.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-3, abs=1e-6)
    os.killpg(divided.supervisor._process.pid, signal.SIGKILL)
    divided.supervisor.stop()

    restarted = site(3, recover=True)
    again, other = restarted.exchange()
    assert again.metrics["swap/fraction"] == step.metrics["swap/fraction"] > 0
    close(other, delta)
    assert restarted.ask(restarted.requests.validate()).scores == scores
    restarted.supervisor.stop(grace=60)
    saved = load_file(restarted.supervisor._config.state_dir / "adapter" / "adapter_model.safetensors")
    close(
        saved, {name: tensor + other[name] for name, tensor in initial_adapter(restarted.ready.adapter_spec, 0).items()}
    )


@pytest.mark.slow
def test_ranks_find_the_tokens_of_high_entropy_together(site):
    """Of the whole step's tokens, with whole weights and without, as one rank alone does."""
    entropies = {"grpo__top_entropy_quantile": 0.1, "grpo__entropy_coef": 0.05, "grpo__beta": 0.0}
    told = []
    for stage, processes in ((0, 1), (0, 2), (3, 2)):
        started = site(stage, processes=processes, **entropies)
        told.append(started.train()[0].metrics)
        started.supervisor.stop(grace=60)
    for name in ("loss", "grad_norm"):
        assert [metrics[name] for metrics in told[1:]] == pytest.approx([told[0][name]] * 2, rel=1e-3, abs=1e-6)
    assert told[0]["grad_norm"] > 1e-3
