"""The server's optimizers, by hand."""

import pytest
import torch

from fedrlvr.algorithms.server_optimizer import adam, moments_spec, momentum, server_step
from fedrlvr.config import FederationSettings
from fedrlvr.protocol.adapters import check_tensors

NAME = "q.lora_A.weight"


def adapter(*values: float) -> dict[str, torch.Tensor]:
    return {NAME: torch.tensor([values])}


def values(tensors: dict[str, torch.Tensor], name: str = NAME) -> list[float]:
    return tensors[name].flatten().tolist()


def test_without_an_optimizer_the_average_is_the_next_adapter():
    average = adapter(1.0, 2.0)
    assert server_step(adapter(0.0, 0.0), average, {}, FederationSettings()) == (average, {})


def test_momentum_by_hand():
    """Differences (2, -4), then (1, 1), half of the last step kept, at a rate of 0.5."""
    first, moments = momentum(adapter(10.0, 10.0), adapter(12.0, 6.0), {}, 0.5, 0.5)
    assert values(first) == [11.0, 8.0]
    assert values(moments, f"m.{NAME}") == [2.0, -4.0]
    second, moments = momentum(first, adapter(12.0, 9.0), moments, 0.5, 0.5)
    assert values(moments, f"m.{NAME}") == [2.0, -1.0]  # 0.5 * 2 + 1, 0.5 * -4 + 1
    assert values(second) == [12.0, 7.5]


def test_adam_by_hand():
    """With betas 0.5, 0.75 and tau 1: m = 0.5 * 4, v = 0.75 * 1 + 0.25 * 16 = 4.75; then m = 1, v = 0.75 * 4.75."""
    first, moments = adam(adapter(0.0), adapter(4.0), {}, 0.1, (0.5, 0.75), 1.0)
    assert values(moments, f"m.{NAME}") == [2.0]
    assert values(moments, f"v.{NAME}") == [4.75]
    assert values(first) == pytest.approx([0.1 * 2 / (4.75**0.5 + 1)], rel=1e-6)
    second, moments = adam(first, first, moments, 0.1, (0.5, 0.75), 1.0)
    assert values(moments, f"v.{NAME}") == [3.5625]
    assert values(second) == pytest.approx([values(first)[0] + 0.1 / (3.5625**0.5 + 1)], rel=1e-6)


@pytest.mark.parametrize("name", ["none", "momentum", "adam"])
def test_where_nobody_moves_nothing_moves_and_moments_are_of_their_spec(name):
    federation = FederationSettings(server_optimizer=name)
    start = {NAME: torch.randn(2, 3, dtype=torch.float32), "q.lora_B.weight": torch.zeros(4, 2)}
    after, moments = server_step(start, start, {}, federation)
    assert all(torch.equal(after[n], tensor) for n, tensor in start.items())
    spec = moments_spec({n: list(t.shape) for n, t in start.items()}, federation)
    assert check_tensors(moments, spec) is moments
    assert len(moments) == 2 * {"none": 0, "momentum": 1, "adam": 2}[name]


def test_momentum_without_momentum_is_the_average_and_the_settings_arrive():
    start, average = adapter(1.0, 2.0), adapter(4.0, -2.0)
    plain = FederationSettings(server_optimizer="momentum", server_momentum=0.0)
    assert values(server_step(start, average, {f"m.{NAME}": torch.ones(1, 2)}, plain)[0]) == [4.0, -2.0]
    changed = FederationSettings(
        server_optimizer="adam", server_betas=(0.5, 0.75), server_tau=1.0, server_learning_rate=0.1
    )
    found, expected = server_step(adapter(0.0), adapter(4.0), {}, changed), (0.1, (0.5, 0.75), 1.0)
    assert values(found[0]) == values(adam(adapter(0.0), adapter(4.0), {}, *expected)[0])
