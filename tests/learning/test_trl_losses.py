"""A whole step, cut into micro-batches, has the loss and the gradient of TRL's GRPOTrainer on one micro-batch.

TRL's `_compute_loss` runs as it is, on an object that has the attributes that it reads. Both sides get the same logits,
as a tensor whose gradient is compared; the model, which TRL and we call in different ways, is left out.
"""

from collections import defaultdict
from contextlib import nullcontext
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedrlvr.config import GrpoSettings
from fedrlvr.learning.batch import Batch
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.head import from_logits
from fedrlvr.learning.ranks import Ranks
from fedrlvr.types import Completion, Group, Problem

trl = pytest.importorskip("trl")

LENGTHS, WIDTH, VOCABULARY, MAX_LENGTH, TEMPERATURE = (5, 1, 7, 3, 6, 2, 4, 7), 7, 11, 9, 1.0
REWARDS = ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0))
ADVANTAGES = torch.tensor([0.5, -0.5, -0.5, 0.5, -0.25, 0.75, -0.25, -0.25])
MASK = torch.arange(WIDTH) < torch.tensor(LENGTHS).unsqueeze(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-5}
CLIPS = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio")


def given(seed: int) -> SimpleNamespace:
    """Logits of 8 completions now, of the old policy and of the reference, and the tokens. Ratios go from 0.18 to 4."""
    generator = torch.Generator().manual_seed(seed)
    old = torch.randn(8, WIDTH, VOCABULARY, generator=generator)
    moved = [old + torch.randn(old.shape, generator=generator) * 0.8 for _ in range(2)]
    return SimpleNamespace(
        logits=moved[0], reference=moved[1], old=old, ids=torch.randint(VOCABULARY, (8, WIDTH), generator=generator)
    )


class LogitsEngine:
    """An engine whose policy is a table of logits, one row for each prompt; its parameters are these logits."""

    random_dropout, device = False, torch.device("cpu")
    policy = SimpleNamespace(pad_id=0, encode_prompt=lambda prompt: (int(prompt),))

    def __init__(self, tensors: SimpleNamespace):
        self.logits, self.reference = tensors.logits.clone().requires_grad_(), tensors.reference
        self.batches = 0

    def logprobs(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        return self._of(self.logits, batch.rows, batch.completion_ids, entropies).masked_fill(~batch.mask, 0.0)

    def score(self, rows, micro_batch_size, reference=False, entropies=False):
        logits, scores = self.reference if reference else self.logits.detach(), []
        for row in rows:
            values = self._of(logits, [row], torch.tensor([row.completion_ids]), entropies)
            scores.append(tuple((values[1] if entropies else values)[0].tolist()))
        return scores

    def training(self, seed: int):
        return nullcontext()

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        loss.backward()
        self.batches += 1

    def step(self) -> float:
        return float(self.logits.grad.norm())

    def _of(self, logits, rows, ids, entropies):
        chosen = logits[[row.prompt_ids[0] for row in rows], : ids.shape[1]]
        return from_logits(chosen, ids, TEMPERATURE, entropies)


def our_step(settings: GrpoSettings, tensors, on_policy: bool) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient of the logits, and the metrics. Rows come in micro-batches of 3."""
    engine = LogitsEngine(tensors)
    old = from_logits(tensors.old, tensors.ids, TEMPERATURE, False)
    completions = [
        Completion(tuple(ids[:n]), tuple(values[:n]), "", reward, problem=Problem("", str(row), ""))
        for row, (n, ids, values, reward) in enumerate(
            zip(LENGTHS, tensors.ids.tolist(), old.tolist(), sum(REWARDS, ()), strict=True)
        )
    ]
    groups = [Group(Problem("", "", ""), tuple(completions[start : start + 4])) for start in (0, 4)]
    step = GrpoStep(engine, SimpleNamespace(prompt=lambda problem: problem.prompt), settings, Ranks(), 3)
    step.one_step = on_policy
    metrics = step(groups, np.random.default_rng(0))
    assert engine.batches > 1
    return engine.logits.grad, metrics


ONE_PROCESS = SimpleNamespace(
    num_processes=1,
    sync_gradients=True,
    gather=lambda tensor: tensor,
    reduce=lambda tensor, reduction: tensor,
    pad_across_processes=lambda tensor, dim, pad_index: tensor,
)


def trl_trainer(settings: GrpoSettings, parts: int):
    """TRL's trainer with what `_compute_loss` reads, for an optimizer step of so many micro-batches."""
    trainer = object.__new__(trl.GRPOTrainer)
    vars(trainer).update(
        accelerator=ONE_PROCESS,
        args=SimpleNamespace(delta=settings.delta, use_bias_correction_kl=False, steps_per_generation=parts),
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=parts,
        max_completion_length=settings.max_completion_length,
        epsilon_low=settings.epsilon,
        epsilon_high=settings.epsilon if settings.epsilon_high is None else settings.epsilon_high,
        loss_type=settings.loss_type,
        importance_sampling_level=settings.importance_sampling_level,
        beta=settings.beta,
        top_entropy_quantile=settings.top_entropy_quantile,
        entropy_coef=settings.entropy_coef,
        _entropy_bonus_enabled=settings.entropy_coef != 0,
        use_adaptive_entropy=False,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _metrics={"train": defaultdict(list)},
    )
    return trainer


def trl_step(settings: GrpoSettings, tensors, on_policy: bool, parts: int = 1):
    """The gradient of the logits, the loss, and the metrics of the first micro-batch, of TRL's own code."""
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    logits, total, trainer = tensors.logits.clone().requires_grad_(), 0.0, trl_trainer(settings, parts)
    inputs = {
        "prompt_ids": torch.zeros(8, 1, dtype=torch.long),
        "prompt_mask": torch.ones(8, 1, dtype=torch.long),
        "completion_ids": tensors.ids,
        "completion_mask": MASK.long(),
        "advantages": ADVANTAGES,
        "ref_per_token_logps": selective_log_softmax(tensors.reference, tensors.ids),
    }
    if not on_policy:
        inputs["old_per_token_logps"] = selective_log_softmax(tensors.old, tensors.ids)
    for part in torch.arange(8).chunk(parts):
        values = selective_log_softmax(logits[part], tensors.ids[part]), entropy_from_logits(logits[part]), None
        trainer._get_per_token_logps_and_entropies = lambda *_, now=values, **__: now
        some = {name: tensor[part] for name, tensor in inputs.items()} | {"num_items_in_batch": MASK.sum()}
        loss = trainer._compute_loss(None, some)
        loss.backward()
        total += loss.item()
    return logits.grad, total, {name: values[0] for name, values in trainer._metrics["train"].items()}


def grpo_settings(**settings) -> GrpoSettings:
    return GrpoSettings(num_generations=4, max_completion_length=MAX_LENGTH, scale_rewards="none", **settings)


def compared(on_policy: bool = False, **settings) -> dict[str, float]:
    """Compares one step of both, and returns our metrics."""
    grpo, tensors = grpo_settings(**settings), given(seed=10)
    gradient, metrics = our_step(grpo, tensors, on_policy)
    expected, loss, said = trl_step(grpo, tensors, on_policy)
    torch.testing.assert_close(gradient, expected, **CLOSE)
    assert float(expected.abs().max()) > 1e-3
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    names = {name for name in said if name in CLIPS}
    assert {name for name in metrics if name in CLIPS} == names
    if grpo.top_entropy_quantile == 1 and grpo.beta > 0:  # TRL counts rows that are not in our loss, too
        assert {name: metrics[name] for name in names} == pytest.approx({name: said[name] for name in names}, abs=1e-6)
    return metrics


@pytest.mark.parametrize("entropy_coef", [0.0, 0.03])
@pytest.mark.parametrize("quantile", [1.0, 0.3, 0.7])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"])
def test_a_step_is_trls(loss_type, level, beta, quantile, entropy_coef):
    bounds = [{"epsilon_high": 1.1}] if loss_type == "cispo" else [{}, {"epsilon_high": 0.28, "delta": 1.5}]
    for bound, on_policy in product(bounds, (False, True)):
        compared(
            on_policy,
            loss_type=loss_type,
            importance_sampling_level=level,
            beta=beta,
            top_entropy_quantile=quantile,
            entropy_coef=entropy_coef,
            **bound,
        )


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_every_bound_is_active_in_these_steps(level):
    """Beta lets all rows count, as in TRL's metrics."""
    more = {"importance_sampling_level": level, "beta": 0.04}
    clipped, bounded = compared(**more), compared(delta=1.5, **more)
    low, high, region = (clipped[name] for name in CLIPS[:3])
    assert min(low, high) > 0.05
    assert region == pytest.approx(low + high)
    assert bounded["loss"] < clipped["loss"] - 1e-4
    assert compared(loss_type="cispo", epsilon_high=1.1, **more)["cispo_clip_ratio"] > 0.1


@pytest.mark.parametrize(("loss_type", "same"), [("dapo", True), ("cispo", True), ("dr_grpo", True), ("bnpo", False)])
def test_of_trls_losses_only_bnpo_depends_on_micro_batches(loss_type, same):
    """This is why `bnpo` is `dapo` here."""
    settings, tensors = grpo_settings(loss_type=loss_type, epsilon_high=1.1), given(seed=10)
    gradient, metrics = our_step(settings, tensors, on_policy=False)
    expected, loss, _ = trl_step(settings, tensors, on_policy=False, parts=4)
    assert torch.allclose(gradient, expected, **CLOSE) is same
    assert (metrics["loss"] == pytest.approx(loss, abs=1e-6)) is same
