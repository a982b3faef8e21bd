"""What a round freezes stays bit for bit, and FedProx's term is what its formula says, however DeepSpeed divides."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deepspeed.utils import safe_get_full_optimizer_state
from safetensors.torch import load_file
from tests.learning.policies import KINDS, descend, descend_often, make_engine, rows_of
from tests.tensors import same

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.lora import A_MARK, B_MARK
from fedrlvr.learning.engine import Engine

ROOT = Path(__file__).parents[2]


def begin(engine: Engine, aggregator: str = "fedit", number: int = 0, seed: int = 7) -> dict[str, torch.Tensor]:
    """A round from another adapter, in which neither factor is 0."""
    generator = torch.Generator().manual_seed(seed)
    engine.load_adapter({n: torch.randn(t.shape, generator=generator) * 0.05 for n, t in engine.adapter().items()})
    start = engine.adapter()
    engine.begin_round(AGGREGATORS[aggregator].frozen(start, number), start)
    return start


@pytest.mark.parametrize(("stage", "dtype"), KINDS)
@pytest.mark.parametrize("mark", [A_MARK, B_MARK])
def test_a_frozen_factor_stays_bit_for_bit_and_the_other_one_moves(model_path, stage, dtype, mark):
    engine = make_engine(model_path, stage, dtype)
    start = begin(engine, "rolora", number=int(mark == B_MARK))
    descend_often(engine, 3)
    moved = {name for name, tensor in engine.adapter().items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in start if mark not in name}
    moments = [t for name, t in engine.optimizer_state().items() if name.endswith("exp_avg")]
    assert any(bool(t.any()) for t in moments)


def test_a_round_that_freezes_nothing_trains_as_one_before_any_round(model_path):
    ended = []
    for rounds in ((), (0,), (1, 0)):  # RoLoRA's round 1 freezes B; what comes after it must not
        engine = make_engine(model_path)
        start = begin(engine)
        for number in rounds:
            engine.begin_round(AGGREGATORS["rolora"].frozen(start, number), start)
        engine.begin_round((), start)
        descend_often(engine, 2)
        ended.append(engine.adapter())
    assert same(ended[0], ended[1])
    assert same(ended[0], ended[2])


@pytest.mark.parametrize("stage", [0, 2])
def test_the_norm_and_so_the_clipping_are_of_what_trains(model_path, stage):
    norms = {}
    for name, number in (("fedit", 0), ("rolora", 0), ("rolora", 1)):
        engine = make_engine(model_path, stage)
        begin(engine, name, number)
        norms[name, number] = descend(engine, rows_of(engine))
    only_b, only_a = norms["rolora", 0], norms["rolora", 1]
    assert min(only_a, only_b) > 0.01
    assert norms["fedit", 0] == pytest.approx((only_a**2 + only_b**2) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("ranks", [1, 5, 8])
def test_of_the_ranks_only_the_first_ones_train(model_path, stage, ranks):
    engine = make_engine(model_path, stage, ranks=ranks)
    start = begin(engine)
    descend_often(engine, 3)
    for name, tensor in engine.adapter().items():
        now, before = (t if A_MARK in name else t.T for t in (tensor, start[name]))  # ranks first
        assert torch.equal(now[ranks:], before[ranks:])
        assert bool((now[:ranks] != before[:ranks]).any(1).all())


def gradients(engine: Engine, parts: int) -> dict[str, torch.Tensor]:
    """What each of Adam's first two steps saw, from its first moments, which are 0.9 x 0.1 + 0.1 of it where a step
    moves nothing."""
    for _ in range(2):
        descend(engine, rows_of(engine), parts)
    found = {}
    for name, parameter in engine._factors.named.items():
        state = engine._torch_optimizer.state.get(parameter)  # without ZeRO
        moment = state["exp_avg"] if state else safe_get_full_optimizer_state(parameter, "exp_avg")
        found[name] = moment.clone() / 0.19
    return found


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_proximal_term_adds_mu_times_the_way_from_the_start_once_a_step(model_path, stage, parts):
    """In one micro-batch or three, with clipping out of reach."""
    mu, seen = 3.0, {}
    for proximal_mu in (0.0, mu):
        engine = make_engine(model_path, stage, learning_rate=0.0, proximal_mu=proximal_mu, max_grad_norm=1e9)
        start, here = begin(engine, seed=1), begin(engine, seed=2)
        engine.begin_round((), start)
        seen[proximal_mu] = gradients(engine, parts)
    for name, plain in seen[0.0].items():
        torch.testing.assert_close(seen[mu][name] - plain, mu * (here[name] - start[name]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", [0, 2])
def test_the_proximal_term_is_clipped_with_the_rest_and_moves_no_frozen_factor(model_path, stage):
    engine = make_engine(model_path, stage, learning_rate=0.0, proximal_mu=1e6, max_grad_norm=1.0)
    start, here = begin(engine, seed=1), begin(engine, seed=2)
    frozen = AGGREGATORS["ffa"].frozen(start, 0)
    engine.begin_round(frozen, start)
    seen = gradients(engine, 1)
    engine.set_learning_rate(1e-3)
    descend(engine, rows_of(engine))
    assert float(torch.cat([t.flatten() for t in seen.values()]).norm()) == pytest.approx(1.0, rel=1e-3)
    now = engine.adapter()
    assert all(torch.equal(now[name], here[name]) for name in frozen)
    pulled = [(now[n] - here[n]) * (here[n] - start[n]) < 0 for n in now if n not in frozen]
    assert float(torch.cat([p.flatten() for p in pulled]).float().mean()) > 0.99


def test_more_pull_stays_closer_to_the_start(model_path):
    ways = []
    for mu in (0.0, 1.0, 100.0):
        engine = make_engine(model_path, learning_rate=1e-3, proximal_mu=mu)
        start = begin(engine)
        descend_often(engine, 12)
        ways.append(float(torch.cat([(t - start[n]).flatten() for n, t in engine.adapter().items()]).norm()))
    assert ways[0] > 1.05 * ways[1] > 1.1 * ways[2]


RANK = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.learning.policies import make_engine, rows_of
from tests.learning.test_gradient_hooks import begin
from fedrlvr.learning.batch import collate
from fedrlvr.learning.ranks import Ranks

model, stage, out = sys.argv[1:]
ranks = Ranks.from_environment(Path(out))
engine = make_engine(Path(model), int(stage), proximal_mu=3.0, learning_rate=1e-4)
start = begin(engine, seed=1)
begin(engine, "ffa", seed=2)
engine.begin_round([name for name in start if "lora_A" in name], start)
for _ in range(3):
    rows = rows_of(engine)[: 2]
    batch = collate([rows[ranks.rank]] if ranks.world_size == 2 else rows, 0, engine.device)
    engine.backward(-(engine.logprobs(batch) * batch.mask).sum(), last=True)
    engine.step()
save_file(engine.adapter(), Path(out) / f"{ranks.world_size}-{ranks.rank}.safetensors")
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_ranks_are_pulled_and_held_as_one(model_path, tmp_path, stage):
    (tmp_path / "rank.py").write_text(RANK)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    single = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in single}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "custom")])}
    for processes in (1, 2):
        command = [*launcher, f"--nproc-per-node={processes}", str(tmp_path / "rank.py")]
        arguments = [str(model_path), str(stage), str(tmp_path)]
        subprocess.run([*command, *arguments], env=environment, check=True, timeout=300, capture_output=True)
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, atol=2e-6, rtol=1e-3)
        if A_MARK in name:
            assert torch.equal(first[name], tensor)
