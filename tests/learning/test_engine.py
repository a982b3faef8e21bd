"""The DeepSpeed engine: adapters that stay, micro-batches that add up, and nothing compiled."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from peft import set_peft_model_state_dict
from tests.learning.policies import descend, load, make_engine, rows_of

from fedrlvr.algorithms.loss import token_logprobs
from fedrlvr.learning import head
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.partitioned import is_partitioned, whole
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.worker.launcher import ALONE


def other_adapter(engine: Engine):
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(t.shape, generator=generator) * 0.05 for name, t in engine.adapter().items()}


def weights_of(engine: Engine, trained: bool) -> dict[str, torch.Tensor]:
    """Copies of the parameters themselves, which stage 3 has to gather."""
    named = {name: p for name, p in engine.policy.model.named_parameters() if p.requires_grad is trained}
    with whole(named.values()):
        return {name: parameter.detach().clone() for name, parameter in named.items()}


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (0, "bfloat16"), (1, "bfloat16"), (3, "bfloat16")],
)
def test_a_loaded_adapter_survives_the_next_step(model_path, stage, dtype):
    """Set factors, take a step of learning rate 0: an optimizer with a master copy would bring the old ones back."""
    engine = make_engine(model_path, stage, dtype, learning_rate=0.0)
    descend(engine, rows_of(engine))
    loaded = other_adapter(engine)
    engine.load_adapter(loaded)
    before = engine.adapter()
    descend(engine, rows_of(engine))
    for name, tensor in engine.adapter().items():
        assert torch.equal(tensor, before[name]), name
        torch.testing.assert_close(tensor, loaded[name], atol=0 if dtype == "float32" else 1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (0, "bfloat16"), (2, "bfloat16")],
)
def test_sampling_between_steps_changes_nothing_that_trains(model_path, stage, dtype):
    """While it samples, the adapter is merged into a copy of the weights, but in stage 3."""
    sampling, plain = engines = [make_engine(model_path, stage, dtype) for _ in range(2)]
    for engine in engines:
        engine.load_adapter(other_adapter(engine))
        descend(engine, rows_of(engine))
    before = weights_of(sampling, trained=False) | weights_of(sampling, trained=True)
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(0))
    CachedSampler(sampling.policy, 4).sample([sampling.policy.encode("A3725?")], 1.0, uniforms)
    after = weights_of(sampling, trained=False) | weights_of(sampling, trained=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    for engine in engines:
        descend(engine, rows_of(engine))
    other = plain.adapter()
    assert all(torch.equal(tensor, other[name]) for name, tensor in sampling.adapter().items())


def test_whoever_samples_is_told_of_every_change_of_the_adapter(model_path):
    engine, told = make_engine(model_path), []
    engine.adapter_changed = lambda: told.append(engine.adapter())
    adapter = other_adapter(engine)
    engine.load_adapter(adapter)
    assert len(told) == 1
    assert all(torch.equal(told[0][name], adapter[name]) for name in adapter)
    descend(engine, rows_of(engine))
    assert len(told) == 2
    assert any(not torch.equal(told[1][name], adapter[name]) for name in adapter)
    with engine.borrowed(adapter):
        assert len(told) == 3
    assert len(told) == 4
    assert all(torch.equal(told[3][name], told[1][name]) for name in adapter)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_step_moves_the_adapter_and_only_the_adapter(model_path, stage):
    engine = make_engine(model_path, stage, learning_rate=1e-3)  # steps too small to overshoot, whatever LoRA draws
    frozen = weights_of(engine, trained=False)
    before, likelihood = engine.adapter(), engine.score(rows_of(engine), 8)
    for _ in range(5):
        descend(engine, rows_of(engine))
    assert any(not torch.equal(t, before[n]) for n, t in engine.adapter().items())
    assert sum(map(sum, engine.score(rows_of(engine), 8))) > sum(map(sum, likelihood))
    assert len(frozen) > 20
    assert all(torch.equal(weight, frozen[name]) for name, weight in weights_of(engine, trained=False).items())


def test_accumulated_micro_batches_are_one_batch(model_path):
    adapters = []
    for parts in (1, 2, 4):
        engine = make_engine(model_path)
        engine.load_adapter(other_adapter(engine))
        rows = rows_of(engine, ("p3,7=0;2,5=7#07", "q3,7=4", "s1,1=1;0,9=0#10", "r9,9=9;1,2=2#92"))
        for _ in range(2):
            descend(engine, rows, parts)
        adapters.append(engine.adapter())
    for other in adapters[1:]:
        for name, tensor in adapters[0].items():
            torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=1e-4)


def test_a_reset_optimizer_steps_as_a_fresh_one(model_path):
    worn, fresh = make_engine(model_path), make_engine(model_path)
    start = other_adapter(fresh)
    for _ in range(3):
        descend(worn, rows_of(worn))
    for engine in (worn, fresh):
        engine.load_adapter(start)
    worn.reset_optimizer()
    for engine in (worn, fresh):
        descend(engine, rows_of(engine))
    for name, tensor in fresh.adapter().items():
        assert torch.equal(tensor, worn.adapter()[name]), name


def test_the_gradient_norm_is_the_one_before_clipping(model_path):
    """Computed beside it by plain autograd on the same policy without DeepSpeed."""
    engine = make_engine(model_path, max_grad_norm=1e-3)
    engine.load_adapter(other_adapter(engine))
    batch = collate(rows_of(engine), 0, engine.device)
    plain = load(model_path).model
    set_peft_model_state_dict(plain, engine.adapter())
    logits = plain(**batch.inputs).logits[:, -batch.completion_ids.shape[1] - 1 : -1]
    (-(token_logprobs(logits, batch.completion_ids) * batch.mask).sum()).backward()
    expected = float(torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None]).norm())
    assert expected > 0.1
    engine.backward(-(engine.logprobs(batch) * batch.mask).sum(), last=True)
    assert engine.step() == pytest.approx(expected, rel=1e-4)


def test_the_reference_is_the_model_without_its_adapter(model_path):
    engine = make_engine(model_path)
    base = engine.score(rows_of(engine), 8)
    engine.load_adapter(other_adapter(engine))
    assert engine.score(rows_of(engine), 8) != base
    assert engine.score(rows_of(engine), 8, reference=True) == base


def test_padding_changes_no_score(model_path):
    engine = make_engine(model_path)
    short = Row(engine.policy.encode("B12?"), engine.policy.encode("q1"))
    long = Row(engine.policy.encode("A3725?"), engine.policy.encode("p3,7=0;2,5=7#07"))
    together = engine.score([short, long], 8)
    for alone, among in zip((engine.score([short], 8)[0], engine.score([long], 8)[0]), together, strict=True):
        assert alone == pytest.approx(among, abs=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_partitioned_weights_give_the_scores_and_steps_of_whole_ones(model_path, monkeypatch, checkpointing):
    """The logits come in chunks of two tokens, which is not to gather the head's weights for each."""
    results = []
    for stage in (0, 3):
        engine = make_engine(model_path, stage, gradient_checkpointing=checkpointing)
        monkeypatch.setattr(head, "LOGITS_AT_ONCE", 2 * engine.policy.embeddings)
        engine.load_adapter(other_adapter(engine))
        scores = engine.score(rows_of(engine), 2)
        norms = []
        for _ in range(2):
            with engine.training(0):
                norms.append(descend(engine, rows_of(engine)))
        results.append((scores, norms, engine.adapter(), engine.score(rows_of(engine), 2, reference=True)))
        assert is_partitioned(engine.policy.model) is (stage == 3)
    (scores, norms, adapter, reference), (others, other_norms, other, other_reference) = results
    for one, two in zip(scores + reference, others + other_reference, strict=True):
        assert one == pytest.approx(two, abs=1e-5)
    assert norms == pytest.approx(other_norms, rel=1e-4)
    for name, tensor in adapter.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0)


def test_nothing_is_compiled_where_no_compiler_is(model_path, tmp_path):
    """An engine and a step in a process whose PATH is empty, with an extension cache that must stay empty. It inherits
    nothing that torch, DeepSpeed or another test left in this process's environment."""
    script = textwrap.dedent(f"""
        import torch
        from fedrlvr.config import LoraSettings, OptimizerSettings, PromptSettings
        from fedrlvr.learning.batch import Row, collate
        from fedrlvr.learning.engine import Engine
        from fedrlvr.learning.model import load_policy
        from fedrlvr.site_config import LocalModel
        settings = LocalModel(model_path={str(model_path)!r})
        policy = load_policy(settings, LoraSettings(), PromptSettings(), torch.device("cpu"))
        engine = Engine(policy, OptimizerSettings(learning_rate=1e-2), {{"zero_optimization": {{"stage": 1}}}}, 1.0)
        batch = collate([Row(policy.encode("A3725?"), policy.encode("p3"))], 0, engine.device)
        engine.backward(-engine.logprobs(batch).sum(), last=True)
        print("norm", engine.step())
    """)
    installed = ("HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in installed if name in os.environ} | ALONE
    environment |= {"PATH": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "norm" in done.stdout
    assert not (tmp_path / "extensions").exists()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_bfloat16_cannot_hold_is_in_the_adapter_and_comes_back(model_path, stage):
    """At this learning rate a step changes a factor by a thousandth of the distance between numbers of bfloat16."""
    engine = make_engine(model_path, stage, "bfloat16", learning_rate=1e-6)
    start = other_adapter(engine)
    engine.load_adapter(start)
    assert all(torch.equal(tensor, start[name]) for name, tensor in engine.adapter().items())
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in start.values())
    stored = weights_of(engine, trained=True)
    descend(engine, rows_of(engine))
    moved = torch.cat([(tensor - start[name]).flatten().abs() for name, tensor in engine.adapter().items()])
    # Adam's first step is as long as the learning rate, wherever the gradient is not tiny.
    assert float(((moved > 0.9e-6) & (moved < 1.1e-6)).float().mean()) > 0.99
    same = [weight == stored[name] for name, weight in weights_of(engine, trained=True).items()]
    assert float(torch.cat([part.flatten() for part in same]).float().mean()) > 0.9
