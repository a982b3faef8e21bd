"""One GRPO step against plain autograd, and what must leave it unchanged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrlvr.algorithms.advantages import group_advantages
from fedrlvr.types import Group


def groups_of(trainer, number=0, generations=4) -> list[Group]:
    return trainer.rollouts.groups(trainer.problems.private[:4], generations, seed=number)[0]


def with_rewards(groups, rewards) -> list[Group]:
    """The same completions with other rewards, so that a test can choose what the step is told."""
    return [
        replace(group, completions=tuple(replace(c, reward=r) for c, r in zip(group.completions, row, strict=True)))
        for group, row in zip(groups, rewards, strict=True)
    ]


MIXED = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]


def test_rollout_logprobs_are_training_logprobs(make_trainer, job):
    trainer = make_trainer(job)
    groups = groups_of(trainer)
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    for scored, row in zip(trainer.step.score(rows), rows, strict=True):
        assert scored == pytest.approx(row.old_logprobs, abs=2e-5)


def test_the_first_gradient_is_the_policy_gradient(make_trainer, small_job):
    """At ratio 1 the clipped objective has the gradient sum(A grad log pi) / (rows x max length)."""
    trainer = make_trainer(small_job(optimizer__max_grad_norm=1e9))
    groups = with_rewards(groups_of(trainer), MIXED)
    advantages = np.concatenate(group_advantages(groups))
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    model = trainer.engine.policy.model
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    for row, advantage in zip(rows, advantages, strict=True):
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logprobs = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        start = len(row.prompt_ids)
        likelihood = sum(logprobs[start + t - 1, token] for t, token in enumerate(row.completion_ids))
        for g, new in zip(total, torch.autograd.grad(likelihood, parameters), strict=True):
            g += float(advantage) * new / (len(rows) * 20)
    expected = float(torch.cat([g.flatten() for g in total]).norm())
    metrics = trainer.step(groups, np.random.default_rng(0))
    assert metrics["grad_norm"] == pytest.approx(expected, rel=1e-3)
    assert metrics["clip_ratio/region_mean"] == 0.0


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_groups_without_spread_change_nothing_but_the_time(make_trainer, small_job, loss_type):
    """Keeping them in (as beta > 0 does) gives the same step as leaving them out."""
    adapters = []
    for beta in (0.0, 1e-12):
        trainer = make_trainer(small_job(grpo__loss_type=loss_type, grpo__beta=beta))
        trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
        adapters.append(trainer.engine.adapter())
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(tensor, adapters[1][name], atol=1e-4, rtol=1e-3)


def test_without_any_signal_no_step_is_taken(make_trainer, job):
    trainer = make_trainer(job)
    before = trainer.engine.adapter()
    metrics = trainer.step(with_rewards(groups_of(trainer), [[0] * 4] * 4), np.random.default_rng(0))
    assert metrics["optimizer_steps"] == 0
    assert all(torch.equal(t, before[n]) for n, t in trainer.engine.adapter().items())


def test_micro_batches_do_not_change_the_step(make_trainer, job):
    adapters = []
    for size in (1, 5, 64):
        trainer = make_trainer(job, micro_batch_size=size)
        trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
        adapters.append(trainer.engine.adapter())
    for other in adapters[1:]:
        for name, tensor in adapters[0].items():
            torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=1e-3)


def test_passes_and_minibatches_multiply(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__num_iterations=3, grpo__num_minibatches=2))
    metrics = trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
    assert metrics["optimizer_steps"] == 6


def test_right_answers_become_likelier_and_wrong_ones_less(make_trainer, job):
    trainer = make_trainer(job)
    groups = with_rewards(groups_of(trainer), [[1, 0, 0, 0]] * 4)
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    before = [sum(s) for s in trainer.step.score(rows)]
    for i in range(3):
        trainer.step(groups, np.random.default_rng(i))
    after = [sum(s) for s in trainer.step.score(rows)]
    change = np.array(after) - np.array(before)
    right = np.array([c.reward for group in groups for c in group.completions]) == 1
    answers = {c.token_ids for group in groups for c in group.completions if c.reward == 1}
    wrong = np.array([c.token_ids not in answers for group in groups for c in group.completions])
    assert change[right].mean() > 0 > change[wrong].mean()


def test_truncated_completions_can_be_kept_out_of_the_loss(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__mask_truncated_completions=True))
    groups = with_rewards(groups_of(trainer), [[1, 0, 0, 0]] * 4)
    cut = [replace(g, completions=tuple(replace(c, truncated=True) for c in g.completions)) for g in groups]
    before = trainer.engine.adapter()
    assert trainer.step(cut, np.random.default_rng(0))["optimizer_steps"] == 0
    assert all(torch.equal(t, before[n]) for n, t in trainer.engine.adapter().items())
    assert trainer.step(groups, np.random.default_rng(0))["grad_norm"] > 0.0


def test_the_kl_term_pulls_back_to_the_base_model(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__beta=10.0, optimizer__learning_rate=3e-3))
    moved = {n: t + 0.03 for n, t in trainer.engine.adapter().items()}
    trainer.engine.load_adapter(moved)
    groups = with_rewards(groups_of(trainer), [[0] * 4] * 4)  # no reward signal: only the KL term is left
    first = trainer.step(groups, np.random.default_rng(0))
    for i in range(4):
        last = trainer.step(groups, np.random.default_rng(i))
    assert first["kl"] > 0
    assert last["kl"] < first["kl"]
