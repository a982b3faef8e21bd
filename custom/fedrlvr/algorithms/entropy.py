"""The entropy of every token's distribution, and which tokens of a step have the most of it."""

from collections.abc import Sequence

import torch


def token_entropies(logits_NTV: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """-sum(p log p) with p = softmax(logits / temperature), in nats, float32, shape NT."""
    logprobs = torch.log_softmax(logits_NTV.float() / temperature, -1)
    return -(logprobs.exp() * logprobs).sum(-1)


def entropy_threshold(entropies_M: torch.Tensor, share: float) -> torch.Tensor:
    """The (1 - share)-quantile, a scalar: `torch.quantile`, which takes no more than 16 million numbers."""
    ordered = entropies_M.float().sort().values
    place = torch.tensor(1 - share) * (len(ordered) - 1)
    below = int(place)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below)


def high_entropy_masks(entropies: Sequence[Sequence[float]], share: float) -> list[tuple[bool, ...]]:
    """Of every completion's tokens, which are among this share of all tokens with the highest entropy (TRL's
    `top_entropy_quantile`; arXiv 2506.01939). Tokens at the threshold are."""
    tensors = [torch.tensor(some) for some in entropies]
    threshold = entropy_threshold(torch.cat(tensors), share)
    return [tuple((some >= threshold).tolist()) for some in tensors]
