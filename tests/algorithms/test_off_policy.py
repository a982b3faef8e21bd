"""The treatments of swapped tokens: values and gradients by hand."""

import math

import pytest
import torch

from fedrlvr.algorithms.off_policy import capped_ratio_objective, shaped_objective


def gradient(objective: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(objective.sum(), logprobs)[0]


def test_shaped_by_hand():
    """f(p) = p / (p + 0.1). Its gradient by log p is p f'(p) = p 0.1 / (p + 0.1)^2."""
    p = torch.tensor([[0.9, 0.1, 0.01], [0.5, 0.4, 1.0]])
    logprobs = p.log().requires_grad_()
    objective = shaped_objective(logprobs, torch.tensor([2.0, -1.0]), 0.1)
    by_hand = [[2 * 0.9, 2 * 0.5, 2 / 11], [-5 / 6, -0.8, -1 / 1.1]]
    torch.testing.assert_close(objective, torch.tensor(by_hand))
    expected = p * 0.1 / (p + 0.1) ** 2 * torch.tensor([[2.0], [-1.0]])
    torch.testing.assert_close(gradient(objective, logprobs), expected)


def test_shaping_gives_a_rare_token_more_of_the_gradient_than_its_probability_does():
    logprobs = torch.tensor([[0.01, 0.9]]).log().requires_grad_()
    shaped = gradient(shaped_objective(logprobs, torch.ones(1), 0.1), logprobs)[0]
    plain = gradient(logprobs.exp(), logprobs)[0]
    assert shaped[0] / shaped[1] > plain[0] / plain[1]


def test_the_capped_ratio_by_hand():
    """Ratios 1/2, 2 (at the cap) and 8 (above it): the value and the gradient by log p are both min(ratio, 2) A."""
    sender = torch.tensor([[0.8, 0.4, 0.1]]).log()
    logprobs = torch.tensor([[0.4, 0.8, 0.8]]).log().requires_grad_()
    objective = capped_ratio_objective(logprobs, sender, torch.tensor([3.0]), 2.0)
    torch.testing.assert_close(objective, torch.tensor([[1.5, 6.0, 6.0]]))
    torch.testing.assert_close(gradient(objective, logprobs), torch.tensor([[1.5, 6.0, 6.0]]))


@pytest.mark.parametrize("sender", [-1e30, -1e4, 0.0])
def test_whatever_a_sender_says_a_weight_is_between_nothing_and_the_cap(sender):
    logprobs = torch.tensor([[-0.1, -200.0]], requires_grad=True)
    objective = capped_ratio_objective(logprobs, torch.full((1, 2), sender), torch.ones(1), 2.0)
    assert bool((objective >= 0).all() and (objective <= 2 * (1 + 1e-6)).all())
    assert bool(torch.isfinite(gradient(objective, logprobs)).all())


def test_where_sender_and_receiver_agree_the_gradient_is_the_policy_gradient():
    logprobs = torch.tensor([[math.log(0.3), math.log(0.7)]], requires_grad=True)
    objective = capped_ratio_objective(logprobs, logprobs.detach(), torch.tensor([-1.5]), 2.0)
    torch.testing.assert_close(gradient(objective, logprobs), torch.full((1, 2), -1.5))
