"""How a swapped token, which another site's policy wrote, enters the loss: two alternatives to PPO's clipped term.

Both take the receiver's log-probabilities at the sampling temperature, shape NT, and advantages, shape N, and give the
objective of each token, shape NT.
"""

import math

import torch


def shaped_objective(logprobs_NT: torch.Tensor, advantages_N: torch.Tensor, gamma: float) -> torch.Tensor:
    """f(p) A with f(p) = p / (p + gamma), p being the token's current probability; no clip (LUFFY, arXiv 2504.14945).

    Beside the plain p A, tokens that the receiver finds unlikely keep a gradient.
    """
    p = logprobs_NT.exp()
    return p / (p + gamma) * advantages_N.unsqueeze(-1)


def capped_ratio_objective(
    logprobs_NT: torch.Tensor, sender_logprobs_NT: torch.Tensor, advantages_N: torch.Tensor, cap: float
) -> torch.Tensor:
    """w A with the truncated importance weight w = min(p / p_sender, cap), whose gradient is that of w log p A with w
    held fixed (ACER, arXiv 1611.01224; IMPALA, arXiv 1802.01561).

    The gradient of the plain minimum would vanish at the cap, where the receiver is surest of the answer.
    """
    weight = (logprobs_NT.detach() - sender_logprobs_NT).clamp(max=math.log(cap)).exp()
    one = (logprobs_NT - logprobs_NT.detach()).exp()  # 1, with the gradient of log p
    return weight * one * advantages_N.unsqueeze(-1)
