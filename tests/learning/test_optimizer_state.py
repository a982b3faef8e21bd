"""The optimizer's state leaves and comes back bit for bit, in every stage and precision."""

import pytest
import torch
from tests.learning.policies import KINDS, descend_often, make_engine
from tests.tensors import same


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_a_restored_engine_continues_bit_for_bit(model_path, stage, dtype):
    engine = make_engine(model_path, stage, dtype, learning_rate=1e-3)
    descend_often(engine, 3)
    adapter, state = engine.adapter(), engine.optimizer_state()
    descend_often(engine, 2)
    expected, moments = engine.adapter(), engine.optimizer_state()
    assert not same(expected, adapter)
    other = make_engine(model_path, stage, dtype, learning_rate=1e-3)
    descend_often(other, 1)  # a state of its own, which has to be replaced
    other.load_adapter(adapter)
    other.load_optimizer_state(state)
    assert same(other.optimizer_state(), state)
    descend_often(other, 2)
    assert same(other.adapter(), expected)
    assert same(other.optimizer_state(), moments)


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
def test_a_borrowed_adapter_leaves_no_trace(model_path, stage, dtype):
    """In bfloat16 the adapter is rounded: the optimizer's float32 copy of it must survive too."""
    engine = make_engine(model_path, stage, dtype, learning_rate=1e-3)
    descend_often(engine, 3)
    adapter, state = engine.adapter(), engine.optimizer_state()
    with engine.borrowed({name: tensor + 0.1 for name, tensor in adapter.items()}):
        assert not same(engine.adapter(), adapter)
    assert same(engine.adapter(), adapter)
    assert same(engine.optimizer_state(), state)
    kinds = {name.split(".")[1] for name in state}
    assert ("parameter" in kinds) == ((stage, dtype) != (0, "float32"))  # where they are not the adapter's own
    assert kinds >= {"exp_avg", "exp_avg_sq", "step"}
    if dtype == "bfloat16":
        masters = torch.cat([t.flatten() for name, t in state.items() if name.endswith(".parameter")])
        assert not torch.equal(masters, masters.bfloat16().float())


@pytest.mark.parametrize("stage", [0, 1])
def test_a_state_of_other_parameters_is_refused(model_path, stage):
    engine = make_engine(model_path, stage, "float32")
    with pytest.raises(ValueError, match="for parameters of other shapes"):
        engine.load_optimizer_state({"0.exp_avg": torch.zeros(3)})
    with pytest.raises(ValueError, match="for parameters of other shapes"):
        engine.load_optimizer_state({"0.parameter": torch.zeros(3)})
