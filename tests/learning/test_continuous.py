"""Continuous batching in the worker: the same log-probabilities as training's, and nothing of it stays behind."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tests.learning import policies
from tests.learning.policies import load, move
from tests.runs import spec_of

from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.agreement import compare
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.continuous import ContinuousEngine
from fedrlvr.learning.model import load_policy
from fedrlvr.learning.ranks import Ranks
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

CPU = torch.device("cpu")
prompts = partial(policies.prompts, count=3)
UNIFORMS = torch.rand(12, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def policy(model_path):
    torch.manual_seed(0)
    policy = load(model_path)
    move(policy)
    return policy


@pytest.fixture(scope="module")
def engine(policy):
    return ContinuousEngine(policy)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_policy_as_it_is_now(engine, policy, temperature):
    move(policy)
    groups = engine.sample(prompts(policy), temperature, UNIFORMS)
    assert [len(group) for group in groups] == [4, 4, 4]
    assert compare(policy, prompts(policy), groups, temperature).largest < 1e-4
    with policy.model.disable_adapter():
        groups = engine.sample(prompts(policy), temperature, UNIFORMS)
        assert compare(policy, prompts(policy), groups, temperature).largest < 1e-4


def test_a_completion_ends_at_the_end_token_or_is_truncated(engine, policy):
    ended = [one for group in engine.sample(prompts(policy), 1.0, UNIFORMS) for one in group]
    assert any(not one.truncated for one in ended)
    for one in ended:
        assert one.truncated == (one.token_ids[-1] not in policy.eos_ids)
        assert not set(one.token_ids[:-1]) & set(policy.eos_ids)
        assert len(one.token_ids) <= 20
        assert one.entropy == pytest.approx(-sum(one.logprobs) / len(one.token_ids))
    short = engine.sample(prompts(policy), 1.0, UNIFORMS[:, :3])
    assert all(one.truncated and len(one.token_ids) == 3 for group in short for one in group)
    assert engine.sample([], 1.0, UNIFORMS[:0]) == []


def test_it_draws_by_the_random_numbers_that_it_is_given_and_takes_none_of_training(engine, policy):
    def sampled(uniforms):
        return [one.token_ids for group in engine.sample(prompts(policy), 1.0, uniforms) for one in group]

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = sampled(UNIFORMS)
    assert torch.equal(torch.rand(4), expected)
    assert sampled(UNIFORMS.flip(0)) != first
    assert (engine.repeats, engine.exact_logprobs) == (False, True)


def test_the_model_is_afterwards_as_it_was(engine, policy):
    config, before = policy.model.config, {n: t.clone() for n, t in policy.model.state_dict().items()}
    attention = config._attn_implementation
    engine.sample(prompts(policy), 1.0, UNIFORMS)
    assert config._attn_implementation == attention
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    assert not policy.model.training


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "12 completions were asked for: its thread ended"),
        ({i: SimpleNamespace(error="CUDA out of memory" if i == 7 else None) for i in range(12)}, "CUDA out of memory"),
    ],
)
def test_completions_that_did_not_come_are_an_error(engine, policy, monkeypatch, outputs, said):
    monkeypatch.setattr(type(policy.model.get_base_model()), "generate_batch", lambda *asked: outputs)
    with pytest.raises(RuntimeError, match=f"rollout.engine continuous: .*{said}"):
        engine.sample(prompts(policy), 1.0, UNIFORMS)


@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral", "gemma2", "gemma3_text", "phi3"])
def test_families_are_sampled_from_with_and_without_an_adapter(family, tmp_path):
    size = {"num_layers": 2, "hidden_size": 48, "num_heads": 4}
    settings = BaseModelSettings(architecture=family, steps=0, **size)
    path = base_model(TASKS["protocol"], TASKS["protocol"], settings, tmp_path)
    lora = LoraSettings(target_modules="all-linear")
    model = load_policy(LocalModel(model_path=path), lora, PromptSettings(), CPU)
    assert ContinuousEngine(model).exact_logprobs


def test_a_site_trains_with_it(site_files, job):
    _, configs = site_files({"site-1": ("A",)}, rollout={"engine": "continuous"}, generation_batch_size=3)
    trainer = build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())
    assert isinstance(trainer.rollouts.generator, ContinuousEngine)
    move(trainer.engine.policy)
    trainer.engine.adapter_changed()
    groups, _ = trainer.rollouts.groups(trainer.problems.private[:2], 3, seed=0)
    rows = [trainer.step.row(group.problem, one) for group in groups for one in group.completions]
    for row, scored in zip(rows, trainer.step.score(rows), strict=True):
        assert row.old_logprobs == pytest.approx(scored, abs=1e-4)
