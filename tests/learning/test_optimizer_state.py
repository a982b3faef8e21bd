"""The optimizer's state leaves and comes back bit for bit, in every stage and precision."""

import pytest
import torch

from fedrlvr.config import LoraSettings, OptimizerSettings, PromptSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.model import load_policy
from fedrlvr.site_config import LocalModel

KINDS = [(0, "float32"), (1, "float32"), (2, "float32"), (0, "bfloat16"), (1, "bfloat16"), (2, "bfloat16")]
KINDS += [(3, "float32"), (3, "bfloat16")]


def make_engine(model_path, stage, dtype) -> Engine:
    model = LocalModel(model_path=model_path, dtype=dtype)
    policy = load_policy(model, LoraSettings(), PromptSettings(), torch.device("cpu"))
    deepspeed = {"zero_optimization": {"stage": stage}}
    return Engine(policy, OptimizerSettings(learning_rate=1e-3), deepspeed, temperature=1.0)


def descend(engine: Engine, steps: int) -> None:
    for number in range(steps):
        texts = ("p3,7=0;2,5=7#07", "q3,7=4", "s1,1=1;0,9=0#10")[: 1 + number % 3]
        rows = [Row(engine.policy.encode("A3725?"), engine.policy.encode(text)) for text in texts]
        batch = collate(rows, engine.policy.tokenizer.pad_token_id, engine.device)
        engine.backward(-(engine.logprobs(batch) * batch.mask).sum(), last=True)
        engine.step()


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_a_restored_engine_continues_bit_for_bit(model_path, stage, dtype):
    engine = make_engine(model_path, stage, dtype)
    descend(engine, 3)
    adapter, state = engine.adapter(), engine.optimizer_state()
    descend(engine, 2)
    expected, moments = engine.adapter(), engine.optimizer_state()
    assert not same(expected, adapter)
    other = make_engine(model_path, stage, dtype)
    descend(other, 1)  # a state of its own, which has to be replaced
    other.load_adapter(adapter)
    other.load_optimizer_state(state)
    assert same(other.optimizer_state(), state)
    descend(other, 2)
    assert same(other.adapter(), expected)
    assert same(other.optimizer_state(), moments)


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_a_borrowed_adapter_leaves_no_trace(model_path, stage, dtype):
    """In bfloat16 the adapter is rounded: the optimizer's float32 copy of it must survive too."""
    engine = make_engine(model_path, stage, dtype)
    descend(engine, 3)
    adapter, state = engine.adapter(), engine.optimizer_state()
    with engine.borrowed({name: tensor + 0.1 for name, tensor in adapter.items()}):
        assert not same(engine.adapter(), adapter)
    assert same(engine.adapter(), adapter)
    assert same(engine.optimizer_state(), state)
    if dtype == "bfloat16":
        masters = torch.cat([t.flatten() for name, t in state.items() if name.endswith(".parameter")])
        assert not torch.equal(masters, masters.bfloat16().float())


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_the_state_has_parameters_only_where_they_are_not_the_adapters_own(model_path, stage, dtype):
    engine = make_engine(model_path, stage, dtype)
    descend(engine, 1)
    kinds = {name.split(".")[1] for name in engine.optimizer_state()}
    assert ("parameter" in kinds) == ((stage, dtype) != (0, "float32"))
    assert kinds >= {"exp_avg", "exp_avg_sq", "step"}


@pytest.mark.parametrize("stage", [0, 1])
def test_a_state_of_other_parameters_is_refused(model_path, stage):
    engine = make_engine(model_path, stage, "float32")
    with pytest.raises(ValueError, match="for parameters of other shapes"):
        engine.load_optimizer_state({"0.exp_avg": torch.zeros(3)})
    with pytest.raises(ValueError, match="for parameters of other shapes"):
        engine.load_optimizer_state({"0.parameter": torch.zeros(3)})
