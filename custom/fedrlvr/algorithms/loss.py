"""The GRPO family of losses, per token, and how tokens are weighted into one number.

The gradient does not depend on how rows are cut into micro-batches: weights are computed from the whole step, and a
step's loss is the plain sum of weight x term over all its tokens.
"""

from dataclasses import dataclass

import torch


def token_logprobs(logits_NTV: torch.Tensor, token_ids_NT: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """log softmax(logits / temperature) at the given tokens, float32, shape NT."""
    scaled = logits_NTV.float() / temperature
    chosen = scaled.gather(-1, token_ids_NT.unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(-1)


def clipped_objective(
    logprobs_NT: torch.Tensor,
    old_logprobs_NT: torch.Tensor,
    advantages_N: torch.Tensor,
    epsilon: float,
    epsilon_high: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped term min(ratio A, clip(ratio) A) per token, and where the clip is active (bool), both shape NT.

    For a swapped completion `old_logprobs` are the receiver's own at the start of the step, so own and swapped tokens
    share this one expression.
    """
    high = epsilon if epsilon_high is None else epsilon_high
    ratio = (logprobs_NT - old_logprobs_NT).exp()
    advantages = advantages_N.unsqueeze(-1)
    clipped = ratio.clamp(1 - epsilon, 1 + high)
    active = ((ratio < 1 - epsilon) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
    return torch.minimum(ratio * advantages, clipped * advantages), active


def kl_to_reference(logprobs_NT: torch.Tensor, reference_NT: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimate of KL(policy || reference) per token: exp(d) - d - 1 with d = reference - policy."""
    difference = reference_NT - logprobs_NT
    return difference.exp() - difference - 1


@dataclass(frozen=True)
class StepSize:
    """What a step's loss is divided by. It counts all rows of the step, also those left out for lack of a signal."""

    rows: float
    tokens: float
    max_length: int


def token_weights(mask_NT: torch.Tensor, loss_type: str, size: StepSize) -> torch.Tensor:
    """The weight of every token in the step's loss, float32, shape NT; padding weighs 0.

    grpo: mean over a completion's tokens, then over completions (arXiv 2402.03300);
    bnpo: mean over all tokens of the step;
    dr_grpo: sum over tokens / (completions x max length), a constant (arXiv 2503.20783).
    """
    mask = mask_NT.float()
    if loss_type == "grpo":
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / size.rows
    if loss_type == "bnpo":
        return mask / max(size.tokens, 1)
    if loss_type == "dr_grpo":
        return mask / (size.rows * size.max_length)
    raise ValueError(f"unknown loss_type {loss_type!r}; known: grpo, bnpo, dr_grpo")
