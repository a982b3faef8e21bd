"""The GRPO family of losses, per token, and how tokens are weighted into one number.

The gradient does not depend on how rows are cut into micro-batches: weights are computed from the whole step, and a
step's loss is the plain sum of weight x term over all its tokens.
"""

from dataclasses import dataclass

import torch

from fedrlvr.config import GrpoSettings


def token_logprobs(logits_NTV: torch.Tensor, token_ids_NT: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """log softmax(logits / temperature) at the given tokens, float32, shape NT."""
    scaled = logits_NTV.float() / temperature
    chosen = scaled.gather(-1, token_ids_NT.unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(-1)


def policy_objective(
    logprobs_NT: torch.Tensor,
    old_logprobs_NT: torch.Tensor,
    advantages_N: torch.Tensor,
    mask_NT: torch.Tensor,
    settings: GrpoSettings,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the policy gradient maximises, and by TRL's names of metrics where a bound is active (bool). Their shapes
    are NT, or N1 where all tokens of a completion share one value.

    For a swapped completion `old_logprobs` are the receiver's own at the start of the step, so own and swapped tokens
    share this one expression.
    """
    ratio = importance_ratio(logprobs_NT, old_logprobs_NT, mask_NT, settings.importance_sampling_level)
    if settings.loss_type == "cispo":
        objective, clipped = cispo_objective(logprobs_NT, ratio, advantages_N, settings.epsilon_high)
        return objective, {"cispo_clip_ratio": clipped}
    bounds = settings.epsilon, settings.epsilon_high, settings.delta
    objective, low, high = clipped_objective(ratio, advantages_N, *bounds)
    clips = {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low | high}
    return objective, clips


def importance_ratio(
    logprobs_NT: torch.Tensor, old_logprobs_NT: torch.Tensor, mask_NT: torch.Tensor, level: str
) -> torch.Tensor:
    """policy / old policy of every token, shape NT. With `level` sequence, the geometric mean over a completion's
    tokens, shape N1 (GSPO, arXiv 2507.18071)."""
    log_ratio = logprobs_NT - old_logprobs_NT
    if level == "sequence":
        log_ratio = (log_ratio * mask_NT).sum(-1, keepdim=True) / mask_NT.sum(-1, keepdim=True).clamp(min=1)
    return log_ratio.exp()


def clipped_objective(
    ratio: torch.Tensor, advantages_N: torch.Tensor, epsilon: float, epsilon_high: float | None, delta: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """PPO's clipped term min(ratio A, clip(ratio) A), and where the clip is active (bool), below and above; all of the
    ratio's shape, NT or N1. With `delta` the first ratio is at most this: the clip has two sides (INTELLECT-2, arXiv
    2505.07291)."""
    high = epsilon if epsilon_high is None else epsilon_high
    advantages = advantages_N.unsqueeze(-1)
    clipped = ratio.clamp(1 - epsilon, 1 + high)
    below, above = (ratio < 1 - epsilon) & (advantages < 0), (ratio > 1 + high) & (advantages > 0)
    bounded = ratio if delta is None else ratio.clamp(max=delta)
    return torch.minimum(bounded * advantages, clipped * advantages), below, above


def cispo_objective(
    logprobs_NT: torch.Tensor, ratio: torch.Tensor, advantages_N: torch.Tensor, most: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """min(ratio, most) A log pi per token, shape NT, with the ratio as a constant: no token's gradient is cut to 0
    (CISPO, arXiv 2506.13585). And where the bound holds back a good token (bool), of the ratio's shape."""
    advantages = advantages_N.unsqueeze(-1)
    weight = ratio.clamp(max=most).detach()
    return weight * advantages * logprobs_NT, (ratio > most) & (advantages > 0)


def kl_to_reference(logprobs_NT: torch.Tensor, reference_NT: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimate of KL(policy || reference) per token: exp(d) - d - 1 with d = reference - policy."""
    difference = reference_NT - logprobs_NT
    return difference.exp() - difference - 1


@dataclass(frozen=True)
class StepSize:
    """What a step's loss is divided by. It counts all rows of the step, also those left out for lack of a signal.
    `entropy_tokens` are those of which the entropy bonus is the mean."""

    rows: float
    tokens: float
    max_length: int
    entropy_tokens: int = 0


def token_weights(mask_NT: torch.Tensor, loss_type: str, size: StepSize) -> torch.Tensor:
    """The weight of every token in the step's loss, float32, shape NT; padding weighs 0.

    grpo: mean over a completion's tokens, then over completions (arXiv 2402.03300);
    bnpo, dapo, cispo: mean over all tokens of the step. TRL's bnpo is a mean of micro-batches' means. Its others (dapo
    is arXiv 2503.14476) are what this is;
    dr_grpo: sum over tokens / (completions x max length), a constant (arXiv 2503.20783).
    """
    mask = mask_NT.float()
    if loss_type == "grpo":
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / size.rows
    if loss_type in ("bnpo", "dapo", "cispo"):
        return mask / max(size.tokens, 1)
    if loss_type == "dr_grpo":
        return mask / (size.rows * size.max_length)
    raise ValueError(f"unknown loss_type {loss_type!r}; known: grpo, bnpo, dr_grpo, dapo, cispo")
