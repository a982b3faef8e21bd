"""One GRPO step against plain autograd, and what must leave it unchanged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrlvr.algorithms.advantages import group_advantages
from fedrlvr.learning.batch import collate
from fedrlvr.learning.finite import NotFinite
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.scorer import Scorer
from fedrlvr.types import Completion, Group


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


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
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


@pytest.mark.parametrize(
    "grpo",
    [
        {"loss_type": "grpo"},
        {"loss_type": "bnpo"},
        {"loss_type": "dr_grpo"},
        {"loss_type": "dapo", "importance_sampling_level": "sequence"},
        {"loss_type": "cispo", "epsilon_high": 5.0, "num_minibatches": 2},
        {"entropy_coef": 0.1},
        {"top_entropy_quantile": 0.3, "entropy_coef": 0.1, "beta": 0.1},
        {"top_entropy_quantile": 0.3, "num_minibatches": 2, "num_iterations": 2, "delta": 3.0},
    ],
    ids=str,
)
def test_micro_batches_change_neither_the_step_nor_the_logged_loss(make_trainer, small_job, grpo):
    adapters, losses = [], []
    for size in (1, 5, 64):
        trainer = make_trainer(small_job(**{f"grpo__{name}": v for name, v in grpo.items()}), micro_batch_size=size)
        metrics = trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
        adapters.append(trainer.engine.adapter())
        losses.append(metrics["loss"])
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)
    for other in adapters[1:]:
        for name, tensor in adapters[0].items():
            torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_entropies_have_their_part_in_the_gradient_in_every_stage(make_trainer, small_job, stage):
    """Without a reward signal the bonus is all that is left, and the policy becomes less certain; the loss is minus
    the mean entropy of all tokens."""
    trainer = make_trainer(small_job(grpo__entropy_coef=1.0, optimizer__learning_rate=2e-3), stage=stage)
    groups = with_rewards(groups_of(trainer), [[0] * 4] * 4)
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    means = []
    for i in range(4):
        found = [value for values in trainer.step.score(rows, entropies=True) for value in values]
        means.append(sum(found) / len(found))
        metrics = trainer.step(groups, np.random.default_rng(i))
        assert metrics["loss"] == pytest.approx(-means[-1], abs=1e-5)
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.01


def test_only_the_share_with_the_highest_entropy_moves_the_policy(make_trainer, small_job):
    """The norm of the gradient is that of a plain step in which the other tokens' advantage is 0."""
    hot = {"grpo__temperature": 3.0, "optimizer__max_grad_norm": 1e9}  # else one token alone has a gradient
    trainer = make_trainer(small_job(grpo__top_entropy_quantile=0.4, **hot))
    groups = with_rewards(groups_of(trainer), MIXED)
    engine, advantages = trainer.engine, np.concatenate(group_advantages(groups))
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    entropies = [torch.tensor(values) for values in trainer.step.score(rows, entropies=True)]
    threshold = torch.quantile(torch.cat(entropies), 0.6)
    batch = collate(rows, engine.policy.pad_id, engine.device)
    logprobs, loss = engine.scorer(batch), 0.0
    for row, values, advantage in zip(logprobs, entropies, advantages, strict=True):
        loss = loss - float(advantage) * row[: len(values)][values >= threshold].sum() / (len(rows) * 20)
    gradients = torch.autograd.grad(loss, engine.lora_parameters)
    expected = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    metrics = trainer.step(groups, np.random.default_rng(0))
    assert metrics["grad_norm"] == pytest.approx(expected, rel=1e-3)
    plain = make_trainer(small_job(**hot))
    assert plain.step(groups, np.random.default_rng(0))["grad_norm"] != pytest.approx(expected, rel=0.1)


def test_where_no_token_of_high_entropy_has_an_advantage_no_step_is_taken(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__top_entropy_quantile=0.5))
    before = trainer.engine.adapter()
    metrics = trainer.step(with_rewards(groups_of(trainer), [[0] * 4] * 4), np.random.default_rng(0))
    assert metrics["optimizer_steps"] == 0
    assert all(torch.equal(t, before[n]) for n, t in trainer.engine.adapter().items())


def test_passes_and_minibatches_multiply(make_trainer, small_job):
    trainer = make_trainer(small_job(grpo__num_iterations=3, grpo__num_minibatches=2))
    metrics = trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
    assert metrics["optimizer_steps"] == 6


def test_right_answers_become_likelier_and_wrong_ones_less(make_trainer, job):
    trainer = make_trainer(job)
    groups = with_rewards(groups_of(trainer), [[1, 0, 0, 0]] * 4)
    rows = [trainer.step.row(group.problem, c) for group in groups for c in group.completions]
    before = [sum(s) for s in trainer.step.score(rows)]
    for i in range(12):
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


def shaped(trainer, lengths, rewards, truncated=()) -> list[Group]:
    """Groups of the first problem with completions of these lengths; those whose number is in `truncated` were cut."""
    problem, ends = trainer.problems.private[0], iter(range(100))
    made = [
        [Completion((5,) * n, None, "", r, next(ends) in truncated) for n, r in zip(ns, rs, strict=True)]
        for ns, rs in zip(lengths, rewards, strict=True)
    ]
    return [Group(problem, tuple(completions)) for completions in made]


@pytest.mark.parametrize(
    ("loss_type", "masked", "expected"),
    [
        # The first group's advantages are 0.5 and -0.5.
        ("dr_grpo", False, -(0.5 * 6 - 0.5 * 2) / (4 * 20)),
        ("grpo", False, -(0.5 - 0.5) / 4),
        ("bnpo", False, -(0.5 * 6 - 0.5 * 2) / (6 + 2 + 3 + 5)),
        ("dr_grpo", True, 0.5 * 2 / (4 * 20)),
        ("grpo", True, 0.5 / 4),
        ("bnpo", True, 0.5 * 2 / (2 + 3 + 5)),
    ],
)
def test_the_logged_loss_by_hand(make_trainer, small_job, loss_type, masked, expected):
    """At ratio 1 a token's loss is minus its advantage. The first completion, of 6 tokens, was cut off. The second
    group has no signal and still counts in what the loss is divided by."""
    grpo = {"grpo__loss_type": loss_type, "grpo__scale_rewards": "none", "grpo__mask_truncated_completions": masked}
    trainer = make_trainer(small_job(grpo__num_generations=2, **grpo))
    groups = shaped(trainer, [(6, 2), (3, 5)], [(1, 0), (1, 1)], truncated={0})
    assert trainer.step(groups, np.random.default_rng(0))["loss"] == pytest.approx(expected, abs=1e-7)


class OneOfTwo(Ranks):
    """A rank whose mate computes nothing: what this one would tell it is kept."""

    def gather(self, mine):
        self.told = list(mine)
        return self.told


@pytest.mark.parametrize("entropy_coef", [0.0, 0.1])
def test_the_loss_is_the_sum_over_ranks(make_trainer, small_job, entropy_coef):
    told, job = [], small_job(grpo__entropy_coef=entropy_coef)
    for rank in (0, 1):
        trainer = make_trainer(job, micro_batch_size=3)
        trainer.step.ranks = OneOfTwo(rank, 2)
        trainer.step(with_rewards(groups_of(trainer), MIXED), np.random.default_rng(0))
        told += trainer.step.ranks.told
    alone = make_trainer(job)
    metrics = alone.step(with_rewards(groups_of(alone), MIXED), np.random.default_rng(0))
    assert sum(told) == pytest.approx(metrics["loss"], abs=1e-6)
    assert all(abs(part) > 1e-4 for part in told)


@pytest.fixture
def forwards(monkeypatch):
    """The rows of each forward pass, whether it kept a graph, and whether it computed entropies."""
    seen = []
    real = Scorer.forward

    def forward(scorer, batch, entropies=False):
        seen.append((len(batch.rows), torch.is_grad_enabled(), entropies))
        return real(scorer, batch, entropies)

    monkeypatch.setattr(Scorer, "forward", forward)
    return seen


def unscored(groups) -> list[Group]:
    return [replace(g, completions=tuple(replace(c, logprobs=None) for c in g.completions)) for g in groups]


def test_where_the_ratio_is_1_each_row_with_a_signal_has_one_forward_pass_and_the_others_none(
    make_trainer, job, forwards
):
    trainer = make_trainer(job)
    groups = unscored(with_rewards(groups_of(trainer), [[1, 0, 0, 0], [0] * 4, [1] * 4, [1, 0.5, 0, 0.5]]))
    del forwards[:]
    metrics = trainer.step(groups, np.random.default_rng(0))
    assert forwards == [(6, True, False)]  # the last group's middle two are as good as its mean
    assert metrics["clip_ratio/region_mean"] == 0.0


def test_what_trains_in_several_steps_is_scored_first_without_a_graph(make_trainer, small_job, forwards):
    trainer = make_trainer(small_job(grpo__num_minibatches=2))
    groups = unscored(with_rewards(groups_of(trainer), MIXED))
    del forwards[:]
    trainer.step(groups, np.random.default_rng(0))
    assert forwards == [(8, False, False), (4, True, False), (4, True, False)]


def test_entropies_are_computed_where_they_are_asked_for_and_with_a_graph_only_for_the_bonus(
    make_trainer, small_job, forwards
):
    """All 16 completions count in the quantile, 8 of them have a signal; all count in the bonus."""
    for grpo, expected in (
        ({"grpo__top_entropy_quantile": 0.99}, [(16, False, True), (8, True, False)]),
        ({"grpo__entropy_coef": 0.1}, [(16, True, True)]),
    ):
        trainer = make_trainer(small_job(**grpo))
        groups = with_rewards(groups_of(trainer), MIXED)
        del forwards[:]
        trainer.step(groups, np.random.default_rng(0))
        assert forwards == expected


def test_old_logprobs_that_sampling_kept_are_those_of_scoring(make_trainer, small_job):
    ends = []
    for forget in (False, True):
        trainer = make_trainer(small_job(grpo__num_iterations=3))
        groups = with_rewards(groups_of(trainer), MIXED)
        trainer.step(unscored(groups) if forget else groups, np.random.default_rng(0))
        ends.append(trainer.engine.adapter())
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], atol=2e-5, rtol=1e-3)


def test_a_loss_that_is_not_a_number_is_called_so_and_moves_nothing(make_trainer, job):
    trainer = make_trainer(job)
    groups = with_rewards(groups_of(trainer), MIXED)
    before = trainer.engine.adapter()
    with torch.no_grad():
        trainer.engine.policy.model.get_base_model().model.norm.weight[0] = float("nan")
    with pytest.raises(
        NotFinite, match=r"the loss of a step is nan; .*the first is base_model.model.model.norm.weight\)"
    ):
        trainer.step(groups, np.random.default_rng(0))
    assert all(torch.equal(t, before[n]) for n, t in trainer.engine.adapter().items())


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "float32"), (0, "bfloat16"), (2, "bfloat16")])
def test_a_gradient_that_is_not_finite_is_called_so(make_trainer, job, stage, dtype):
    trainer = make_trainer(job, stage=stage, dtype=dtype)
    groups = with_rewards(groups_of(trainer), MIXED)
    before = trainer.engine.adapter()
    trainer.engine.lora_parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFinite, match=r"the gradient of a step is (inf|nan)"):
        trainer.step(groups, np.random.default_rng(0))
    if (stage, dtype) != (2, "bfloat16"):  # there DeepSpeed looks only afterwards, and the worker starts again
        assert all(torch.equal(t, before[n]) for n, t in trainer.engine.adapter().items())
