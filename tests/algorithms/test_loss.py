"""The loss terms by hand, and that cutting a step into micro-batches changes nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.algorithms.loss import (
    StepSize,
    cispo_objective,
    clipped_objective,
    importance_ratio,
    kl_to_reference,
    policy_objective,
    token_logprobs,
    token_weights,
)
from fedrlvr.config import GrpoSettings

LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo")


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_token_logprobs_are_log_softmax_at_temperature(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 11, generator=generator) * 5
    ids = torch.randint(11, (3, 4), generator=generator)
    expected = torch.log_softmax(logits / temperature, -1)
    found = token_logprobs(logits, ids, temperature)
    for n in range(3):
        for t in range(4):
            assert float(found[n, t]) == pytest.approx(float(expected[n, t, ids[n, t]]), abs=1e-5)


def test_token_logprobs_are_computed_in_float32_whatever_the_logits_are():
    logits = torch.tensor([[[8.0, 0.0, 0.0]]], dtype=torch.bfloat16)
    found = token_logprobs(logits, torch.tensor([[0]]))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(-math.log1p(2 * math.exp(-8)), rel=1e-3)  # bfloat16 would say 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "high", "expected", "active"),
    [
        (1.5, 2.0, None, 2.4, True),  # clipped at 1 + 0.2
        (1.5, 2.0, 0.3, 2.6, True),  # clipped at 1 + 0.3
        (1.25, 2.0, None, 2.4, True),
        (1.25, 2.0, 0.3, 2.5, False),  # epsilon_high leaves room
        (0.5, 2.0, 0.3, 1.0, False),  # a good token that became rarer is pulled back without a limit
        (0.5, -2.0, 0.3, -1.6, True),  # clipped at 1 - 0.2; epsilon_high does not count below
        (0.85, -2.0, None, -1.7, False),
        (1.5, -2.0, 0.3, -3.0, False),  # a bad token that became likelier is pushed back without a limit
        (1.5, 0.0, None, 0.0, False),
    ],
)
def test_the_clipped_objective_by_hand(ratio, advantage, high, expected, active):
    objective, *clips = clipped_objective(torch.tensor([[ratio]]), torch.tensor([advantage]), 0.2, high, None)
    assert float(objective) == pytest.approx(expected, abs=1e-5)
    assert [bool(clip) for clip in clips] == [active and advantage < 0, active and advantage > 0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(5.0, -2.0, -6.0), (2.9, -2.0, -5.8), (5.0, 2.0, 2.4), (0.5, -2.0, -1.6), (0.5, 2.0, 1.0)],
)
def test_delta_holds_the_ratio_of_a_bad_token(ratio, advantage, expected):
    """With delta 3 and epsilon 0.2: -2 x 3 in the place of -2 x 5; nothing else changes."""
    ratios = torch.tensor([[ratio]], requires_grad=True)
    objective, *_ = clipped_objective(ratios, torch.tensor([advantage]), 0.2, None, 3.0)
    objective.sum().backward()
    assert objective.item() == pytest.approx(expected, abs=1e-6)
    assert (float(ratios.grad) == 0) is ((ratio, advantage) in [(5.0, -2.0), (5.0, 2.0), (0.5, -2.0)])


def test_the_ratio_of_a_completion_is_the_geometric_mean_of_its_tokens():
    """2 x 8 of two tokens: 4. What stands where a row has ended has no part in it; a row without tokens has ratio 1."""
    log_ratio = torch.tensor([[2.0, 8.0, 7.0], [0.5, 0.5, 0.5], [3.0, 3.0, 3.0]]).log()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
    old = torch.full((3, 3), -2.0)
    torch.testing.assert_close(importance_ratio(old + log_ratio, old, mask, "token"), log_ratio.exp())
    found = importance_ratio(old + log_ratio, old, mask, "sequence")
    torch.testing.assert_close(found, torch.tensor([[4.0], [0.5], [1.0]]))


def test_all_tokens_of_a_clipped_completion_lose_their_gradient():
    """Ratios 2 and 8 of the first row, 1.1 and 1.1 of the second, whose tokens get 1.1 / 2 each."""
    ratios = torch.tensor([[2.0, 8.0], [1.1, 1.1]])
    logprobs = ratios.log().requires_grad_()
    settings = GrpoSettings(importance_sampling_level="sequence")
    mask = torch.ones(2, 2).bool()
    objective, clips = policy_objective(logprobs, torch.zeros(2, 2), torch.tensor([1.0, 1.0]), mask, settings)
    objective.sum().backward()
    torch.testing.assert_close(objective.detach(), torch.tensor([[1.2], [1.1]]))
    torch.testing.assert_close(logprobs.grad, torch.tensor([[0.0, 0.0], [0.55, 0.55]]))
    assert {name: clip.tolist() for name, clip in clips.items()} == {
        "clip_ratio/low_mean": [[False], [False]],
        "clip_ratio/high_mean": [[True], [False]],
        "clip_ratio/region_mean": [[True], [False]],
    }


def test_cispo_by_hand():
    """min(ratio, 2) x A x log p, and its gradient min(ratio, 2) x A: no token loses it."""
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]], requires_grad=True)
    ratio = torch.tensor([[4.0, 0.5], [4.0, 1.0]])
    objective, clipped = cispo_objective(logprobs, ratio, torch.tensor([1.0, -1.0]), 2.0)
    objective.sum().backward()
    assert objective.tolist() == [[-2.0, -1.0], [6.0, 1.0]]
    assert logprobs.grad.tolist() == [[2.0, 0.5], [-2.0, -1.0]]
    assert clipped.tolist() == [[True, False], [False, False]]  # TRL counts good tokens only


def test_cispo_treats_its_ratio_as_a_constant():
    old = torch.tensor([[-1.0]])
    logprobs = (old + math.log(1.5)).requires_grad_()
    settings = GrpoSettings(loss_type="cispo", epsilon_high=5.0)
    objective, clips = policy_objective(logprobs, old, torch.tensor([2.0]), torch.ones(1, 1).bool(), settings)
    objective.sum().backward()
    assert float(logprobs.grad) == pytest.approx(3.0, abs=1e-5)  # 1.5 x 2; through the ratio, log p would be in it
    assert list(clips) == ["cispo_clip_ratio"]


def test_the_gradient_is_ratio_times_advantage_and_zero_where_the_clip_is_active():
    ratios = torch.tensor([[1.0, 1.1, 1.5, 0.5], [1.0, 0.9, 0.5, 1.5]])
    logprobs = ratios.log().requires_grad_()
    objective, below, above = clipped_objective(logprobs.exp(), torch.tensor([2.0, -3.0]), 0.2, None, None)
    objective.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[2.0, 2.2, 0.0, 1.0], [-3.0, -2.7, 0.0, -4.5]]))
    assert above.tolist() == [[False, False, True, False], [False] * 4]
    assert below.tolist() == [[False] * 4, [False, False, True, False]]


def test_each_row_has_its_own_advantage():
    objective, *_ = clipped_objective(torch.ones(2, 2), torch.tensor([1.0, -0.5]), 0.2, None, None)
    assert objective.tolist() == [[1.0, 1.0], [-0.5, -0.5]]


def test_k3_by_hand():
    """Policy 1/2, reference 1/4: exp(d) = 1/2, so 1/2 + log 2 - 1."""
    found = kl_to_reference(torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]]))
    assert float(found) == pytest.approx(math.log(2) - 0.5, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=2, max_size=6))
def test_k3_is_never_negative_and_its_mean_under_the_policy_is_the_kl(logits):
    policy, reference = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), 0).T
    estimate = kl_to_reference(policy, reference)
    assert float(estimate.min()) >= -1e-12
    exact = float((policy.exp() * (policy - reference)).sum())
    assert float((policy.exp() * estimate).sum()) == pytest.approx(exact, abs=1e-9)


MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("grpo", [[1 / 8, 1 / 8, 0], [1 / 12, 1 / 12, 1 / 12], [0, 0, 0]]),  # 1 / tokens of the row / 4 rows
        ("bnpo", [[0.1, 0.1, 0], [0.1, 0.1, 0.1], [0, 0, 0]]),  # 1 / 10 tokens
        ("dapo", [[0.1, 0.1, 0], [0.1, 0.1, 0.1], [0, 0, 0]]),
        ("cispo", [[0.1, 0.1, 0], [0.1, 0.1, 0.1], [0, 0, 0]]),
        ("dr_grpo", [[1 / 32, 1 / 32, 0], [1 / 32, 1 / 32, 1 / 32], [0, 0, 0]]),  # 1 / (4 rows x 8)
    ],
)
def test_token_weights_by_hand(loss_type, expected):
    """The step has 4 rows and 10 tokens, of which these three rows are a part."""
    weights = token_weights(MASK, loss_type, StepSize(rows=4, tokens=10, max_length=8))
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_rows_that_are_all_masked_weigh_nothing_and_divide_nothing_by_zero(loss_type):
    weights = token_weights(torch.zeros(2, 3).bool(), loss_type, StepSize(rows=2, tokens=0, max_length=3))
    assert weights.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_unknown_loss_type_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'ppo'; known: grpo, bnpo, dr_grpo, dapo, cispo"):
        token_weights(MASK, "ppo", StepSize(1, 1, 1))


def step_loss(logprobs, old, advantages, lengths, rows, settings, size) -> torch.Tensor:
    """The loss over some rows, padded only to the longest of them, as a micro-batch is."""
    width = int(max(lengths[i] for i in rows))
    mask = torch.arange(width) < lengths[rows].unsqueeze(-1)
    objective, _ = policy_objective(logprobs[rows, :width], old[rows, :width], advantages[rows], mask, settings)
    return -(objective * token_weights(mask, settings.loss_type, size)).sum()


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("parts", [[[0], [1], [2], [3], [4], [5]], [[5, 0], [3, 2, 4], [1]], [[0, 1, 2, 3], [4, 5]]])
def test_micro_batches_add_up_to_the_whole_step(loss_type, level, parts):
    settings = GrpoSettings(loss_type=loss_type, importance_sampling_level=level, epsilon_high=1.3)
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([1, 7, 4, 2, 7, 5])
    old = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    moved = old + torch.randn(6, 7, generator=generator, dtype=torch.float64) * 0.3
    advantages = torch.randn(6, generator=generator, dtype=torch.float64)
    size = StepSize(rows=8, tokens=float(lengths.sum()) + 9, max_length=7)
    losses, gradients = [], []
    for cut in ([list(range(6))], parts):
        logprobs = moved.clone().requires_grad_()
        loss = sum(step_loss(logprobs, old, advantages, lengths, rows, settings, size) for rows in cut)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(logprobs.grad)
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-7, rtol=1e-6)
    assert float(gradients[0].abs().sum()) > 0
