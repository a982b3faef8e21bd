"""DP-GRPO: the effect of one problem is bounded and hidden; without noise and bound it is plain GRPO."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.runs import spec_of

from fedrlvr.config import PrivacySettings
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.grpo_step import Meter
from fedrlvr.protocol.records import Segment, StepRecord

SINGLE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what the fixtures set for one process
MIXED = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]
DP = {"privacy__mode": "dp_grpo"}


class Recorded(DpStep):
    """Keeps the gradients that go to the optimizer."""

    def __call__(self, groups, problems):
        self.applied = []
        engine = self.step.engine
        real = type(engine).apply_gradient

        def apply(gradient):
            self.applied.append([part.clone() for part in gradient])
            return real(engine, gradient)

        engine.apply_gradient = apply
        return super().__call__(groups, problems)


def groups_of(trainer):
    """Four groups with rewards that a test knows."""
    groups = trainer.rollouts.groups(trainer.problems.private[:4], 4, seed=0)[0]
    return [
        replace(group, completions=tuple(replace(c, reward=r) for c, r in zip(group.completions, rewards, strict=True)))
        for group, rewards in zip(groups, MIXED, strict=True)
    ]


def dp_step(trainer, seed: int = 0, **privacy) -> Recorded:
    settings = PrivacySettings(mode="dp_grpo").model_copy(update=privacy)  # less noise than a job may ask for
    return Recorded(trainer.step, settings, np.random.default_rng(seed))


def flat(gradient) -> torch.Tensor:
    return torch.cat([part.flatten() for part in gradient])


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "float32"), (2, "float32"), (2, "bfloat16")])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_without_noise_and_bound_it_is_the_ordinary_step(make_trainer, small_job, stage, dtype, checkpointing):
    moved, losses = [], []
    for private in (False, True):
        job = small_job(**(DP if private else {}), optimizer__max_grad_norm=1e9)
        trainer = make_trainer(job, stage=stage, dtype=dtype, gradient_checkpointing=checkpointing, micro_batch_size=3)
        start, groups = trainer.engine.adapter(), groups_of(trainer)
        if private:
            metrics = dp_step(trainer, noise_multiplier=1e-16, clip_norm=1e3)(groups, problems=4)
        else:
            metrics = trainer.step(groups, np.random.default_rng(0))
        losses.append(metrics["loss"])
        moved.append((metrics["grad_norm"], {n: t - start[n] for n, t in trainer.engine.adapter().items()}))
    (plain_norm, plain), (norm, private) = moved
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert norm == pytest.approx(plain_norm, rel=1e-3 if dtype == "float32" else 3e-2)
    assert sum(float(t.abs().sum()) for t in plain.values()) > 0
    if dtype == "float32":  # Adam's first step is a sign, which bf16's rounding may turn where a gradient is almost 0
        for name, tensor in plain.items():
            torch.testing.assert_close(private[name], tensor, atol=2e-5, rtol=1e-3)


def test_a_groups_gradient_is_that_of_padded_rows(make_trainer, small_job):
    trainer = make_trainer(small_job(**DP), micro_batch_size=3)
    step, (rows, *_) = dp_step(trainer), dp_step(trainer)._rows(groups_of(trainer))
    assert len(rows) == 4
    assert trainer.engine.scorer.packs
    packed, loss = step._gradient(rows, 0, Meter())
    trainer.engine.scorer._way = trainer.engine.scorer._plain
    padded, expected = step._gradient(rows, 0, Meter())
    assert loss == pytest.approx(expected, abs=1e-7)
    torch.testing.assert_close(flat(packed), flat(padded), atol=1e-6, rtol=1e-4)
    assert float(flat(padded).norm()) > 1e-3


def test_one_problem_more_changes_the_sum_by_at_most_the_clip_norm(make_trainer, small_job):
    trainer = make_trainer(small_job(**DP, optimizer__learning_rate=0.0))
    groups, clip_norm = groups_of(trainer), 1e-3
    sums = []
    for some in (groups, groups[1:], groups[:3], []):
        step = dp_step(trainer, noise_multiplier=1e-9, clip_norm=clip_norm)
        metrics = step(some, problems=4)
        sums.append(flat(step.applied[0]) * 4)  # 4 problems are expected
    with_all, without_first, without_last, nobody = sums
    for without in (without_first, without_last):
        assert float((with_all - without).norm()) == pytest.approx(clip_norm, rel=1e-3)  # both were clipped
    assert float(nobody.norm()) < 1e-9
    assert metrics["dp/clipped_fraction"] == 0.0
    assert dp_step(trainer, noise_multiplier=1e-9, clip_norm=clip_norm)(groups, 4)["dp/clipped_fraction"] == 0.5


def test_a_gradient_that_is_not_finite_counts_as_zero_and_is_in_no_metric(make_trainer, small_job, monkeypatch):
    trainer = make_trainer(small_job(**DP, optimizer__learning_rate=0.0))
    step = dp_step(trainer, noise_multiplier=1e-9, clip_norm=1e-3)
    step(groups_of(trainer)[1:], problems=4)
    without = flat(step.applied[0])
    real, calls = step._gradient, []

    def first_is_broken(*arguments):
        calls.append(arguments)
        gradient, loss = real(*arguments)
        return ([part * float("nan") for part in gradient] if len(calls) == 1 else gradient), loss

    monkeypatch.setattr(step, "_gradient", first_is_broken)
    metrics = step(groups_of(trainer), problems=4)
    torch.testing.assert_close(flat(step.applied[0]), without, atol=1e-8, rtol=1e-4)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("stage", [0, 2])
def test_a_frozen_factor_gets_no_noise_and_counts_in_no_norm(make_trainer, small_job, stage):
    """FFA-LoRA with differential privacy: the clip norm is all for B."""
    trainer = make_trainer(small_job(**DP, federation__aggregator="ffa"), stage=stage)
    start, applied = trainer.engine.adapter(), []
    moved = {name: tensor + 0.05 for name, tensor in start.items()}  # where A has a gradient
    trainer.begin_round(moved, 0)
    step = dp_step(trainer, noise_multiplier=1e-9, clip_norm=1e-3)
    total, _ = step._gradient(step._rows(groups_of(trainer))[0], 0, Meter())
    names = {id(p): name for name, p in trainer.engine._factors.named.items()}
    for parameter, part in zip(trainer.engine.lora_parameters, total, strict=True):
        assert bool(part.any()) == ("lora_B" in names[id(parameter)])
    noisy = dp_step(trainer, noise_multiplier=3.0, clip_norm=0.5)
    metrics = noisy(groups_of(trainer), problems=4)
    for name, tensor in trainer.engine.adapter().items():
        assert torch.equal(tensor, moved[name]) == ("lora_A" in name)
    applied = [p for q, p in zip(trainer.engine.lora_parameters, noisy.applied[0], strict=True) if "B" in names[id(q)]]
    assert metrics["grad_norm"] == pytest.approx(float(flat(applied).norm()), rel=1e-4)


def test_the_proximal_term_comes_after_clip_and_noise(make_trainer, small_job):
    """It depends on no problem: what is released of the problems is the same with it and without it."""
    sums, norms = [], []
    for mu in (0.0, 100.0):
        trainer = make_trainer(small_job(**DP, optimizer__proximal_mu=mu, optimizer__max_grad_norm=1e9))
        start = trainer.engine.adapter()
        trainer.engine.load_adapter({name: tensor + 0.05 for name, tensor in start.items()})
        step = dp_step(trainer, noise_multiplier=1e-9, clip_norm=1e-3)
        norms.append(step(groups_of(trainer), problems=4)["grad_norm"])
        sums.append(flat(step.applied[0]))
    assert torch.equal(*sums)
    assert norms[1] == pytest.approx(100 * 0.05 * len(sums[0]) ** 0.5, rel=1e-2)


def test_noise_has_its_size_with_and_without_groups(make_trainer, small_job):
    trainer = make_trainer(small_job(privacy__mode="dp_grpo", grpo__num_iterations=2, optimizer__learning_rate=0.0))
    step = dp_step(trainer, noise_multiplier=3.0, clip_norm=0.5)
    metrics = step([], problems=40)
    assert metrics["optimizer_steps"] == 2.0
    first, second = map(flat, step.applied)
    size = 3.0 * 0.5 / 4  # four problems a step are expected, of whatever number
    for noise in (first, second):
        assert float(noise.std()) == pytest.approx(size, rel=5 / (2 * len(noise)) ** 0.5)
        assert abs(float(noise.mean())) < 5 * size / len(noise) ** 0.5
    assert abs(float((first * second).mean())) < 5 * size**2 / len(first) ** 0.5


def test_every_problem_is_sampled_independently_with_the_same_probability(make_trainer, small_job):
    trainer = make_trainer(small_job(privacy__mode="dp_grpo"))
    problems = trainer.problems.private  # 16, of which 4 are expected
    drawn = [dp_step(trainer, seed=seed).sample(problems) for seed in range(400)]
    sizes = np.array([len(sample) for sample in drawn])
    assert abs(sizes.mean() - 4) < 5 * (16 * 0.25 * 0.75 / 400) ** 0.5
    assert sizes.var() == pytest.approx(16 * 0.25 * 0.75, rel=0.3)
    counts = np.array([sum(problem in sample for sample in drawn) for problem in problems])
    assert abs(counts - 100).max() < 5 * (400 * 0.25 * 0.75) ** 0.5
    assert dp_step(trainer).sample(problems[:3]) == problems[:3]  # fewer than a step wants: all of them


def test_a_job_with_privacy_takes_dp_steps_and_no_seed_repeats_them(make_trainer, small_job):
    job = small_job(privacy__mode="dp_grpo", privacy__clip_norm=0.1)
    ends = []
    for _ in range(2):
        trainer = make_trainer(job)
        steps = trainer.train([Segment(0, 2, ())], exchange=False)
        assert [StepRecord.model_validate_json(step.model_dump_json()) for step in steps] == steps
        assert [(step.kind, step.metrics["optimizer_steps"]) for step in steps] == [("private", 1.0)] * 2
        ends.append(trainer.engine.adapter())
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_an_empty_sample_is_a_step_like_any_other(make_trainer, small_job, monkeypatch):
    trainer = make_trainer(small_job(privacy__mode="dp_grpo"))
    monkeypatch.setattr(trainer.dp_step, "sample", lambda problems: [])
    start = trainer.engine.adapter()
    (step,) = trainer.train([Segment(0, 1, ())], exchange=False)
    assert StepRecord.model_validate_json(step.model_dump_json()) == step
    assert [step.metrics[name] for name in ("groups", "reward", "optimizer_steps")] == [0.0, 0.0, 1.0]
    assert "not_finite" not in step.metrics  # means over nobody are numbers all the same
    assert any(not torch.equal(start[name], now) for name, now in trainer.engine.adapter().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grpo__num_minibatches": 2}, "grpo.num_minibatches is 2, but privacy.mode: dp_grpo needs 1"),
        ({"grpo__loss_type": "grpo"}, "grpo.loss_type is grpo, but privacy.mode: dp_grpo needs dr_grpo"),
        ({"grpo__loss_type": "dapo"}, "grpo.loss_type is dapo, but privacy.mode: dp_grpo needs dr_grpo"),
        ({"grpo__top_entropy_quantile": 0.2}, "grpo.top_entropy_quantile is 0.2, but .* needs 1.0"),
        ({"grpo__entropy_coef": 0.1}, "grpo.entropy_coef is 0.1, but .* needs 0.0"),
        ({"grpo__scale_rewards": "batch"}, "needs group or none"),
        ({"privacy__noise_multiplier": 0.0}, r"greater than or equal to 0\.05"),
    ],
)
def test_settings_in_which_one_problem_would_move_others_are_refused(small_job, changes, said):
    with pytest.raises(ValueError, match=said):
        small_job(privacy__mode="dp_grpo", **changes)


RANK = """
import json, sys
from pathlib import Path
import numpy as np
from safetensors.torch import save_file
from fedrlvr.algorithms.lora import adapter_spec, initial_adapter
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site_config import SiteConfig

spec, config, out = sys.argv[1:]
spec, ranks = RunSpec.model_validate_json(spec), Ranks.from_environment(Path(out))
trainer = build_trainer(spec, "site-1", SiteConfig.model_validate_json(config), ranks)
trainer.begin_round(initial_adapter(adapter_spec(trainer.engine.adapter()), 0), 0)
step = DpStep(trainer.step, spec.job.privacy, np.random.default_rng(7))  # only rank 0's draws may count
if ranks.rank:
    step._random = np.random.default_rng(8)
for _ in range(2):
    problems = step.sample(trainer.problems.private)
    groups = trainer.rollouts.groups(problems, 8, step.seed())[0]
    step(groups, 16)
save_file(trainer.engine.adapter(), Path(out) / f"{ranks.world_size}-{ranks.rank}.safetensors")
"""


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(site_files, small_job, tmp_path):
    job = small_job(privacy__mode="dp_grpo", optimizer__learning_rate=1e-4, grpo__num_generations=8)
    _, configs = site_files({"site-1": ("A", "B", "C", "D")}, stage=1)
    (tmp_path / "rank.py").write_text(RANK)
    spec = spec_of(job, configs)
    arguments = [spec.model_dump_json(), configs["site-1"].model_dump_json(), str(tmp_path)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {name: value for name, value in os.environ.items() if name not in SINGLE} | {"OMP_NUM_THREADS": "1"}
    for processes in (1, 2):
        command = [*launcher, f"--nproc-per-node={processes}", str(tmp_path / "rank.py"), *arguments]
        subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, atol=2e-6, rtol=1e-3)
