"""Weights in 4 bits: they take a part of the memory, an adapter trains on top of them, and DeepSpeed allows it."""

import pytest
import torch
from tests.learning.policies import descend_often, load

from fedrlvr.config import OptimizerSettings
from fedrlvr.learning import model as loading
from fedrlvr.learning.batch import Row
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.site_config import LocalModel

KINDS = [(0, "float32"), (0, "bfloat16"), (2, "bfloat16")]


def policy_of(model_path, dtype="float32", **settings):
    return load(LocalModel(model_path=model_path, dtype=dtype, **settings))


def test_linear_layers_take_half_a_byte_a_weight_and_nearly_the_same_values(model_path):
    whole, small = (policy_of(model_path, load_in_4bit=four).model.get_base_model() for four in (False, True))
    name = "model.layers.0.mlp.up_proj"
    weight, packed = (model.get_submodule(name).weight for model in (whole, small))
    assert packed.nbytes == weight.numel() // 2
    ids = torch.arange(4, 12).unsqueeze(0)
    with torch.no_grad():
        expected, found = (model(input_ids=ids).logits for model in (whole, small))
    assert not torch.equal(found, expected)
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.95


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_an_adapter_trains_on_top_and_the_weights_do_not_move(model_path, stage, dtype):
    policy = policy_of(model_path, dtype, load_in_4bit=True)
    sampler = CachedSampler(policy)
    assert not sampler.exact_logprobs
    engine = Engine(policy, OptimizerSettings(learning_rate=1e-2), {"zero_optimization": {"stage": stage}}, 1.0)
    before = [p.clone() for p in policy.model.parameters() if not p.requires_grad]
    prompt = policy.encode("A3725?")
    (samples,) = sampler.sample([prompt], 1.0, torch.rand(4, 8, generator=torch.Generator().manual_seed(0)))
    rows = [Row(prompt, made.token_ids) for made in samples]
    for made, scores in zip(samples, engine.score(rows, 4), strict=True):
        assert made.logprobs == pytest.approx(scores, abs=0.1 if dtype == "bfloat16" else 0.01)
    told = Row(prompt, policy.encode("p3,7=0;2,5=7#07"))
    (start,) = engine.score([told], 1)
    descend_often(engine, 3)
    (end,) = engine.score([told], 1)
    assert sum(end) > sum(start)
    after = [p for p in policy.model.parameters() if not p.requires_grad]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_without_bitsandbytes_it_is_refused_with_the_remedy(model_path, monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"load_in_4bit: needs bitsandbytes; pip install bitsandbytes"):
        policy_of(model_path, load_in_4bit=True)
