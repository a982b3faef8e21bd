"""Drawing tokens: few passes over the vocabulary, on the CPU for a few rows at a time, which stay in its cache."""

import torch
from transformers import TopPLogitsWarper

BLOCK = 256  # tokens; a long vocabulary is searched block by block first, then within one block
AT_ONCE = 2**18  # logits worked on at once on the CPU
LEAST = -200.0  # of a logit relative to the row's largest: its exponential is 0 in float32, but 0 x -200 is a number


def draw(
    logits_NV: torch.Tensor, temperature: float, uniforms_N: torch.Tensor, top_p: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each row a token, its log-probability, and the entropy of its distribution in nats, at this temperature. At
    0 it is the likeliest token. Below 1, `top_p` leaves only the likeliest tokens that have that probability together.

    The token is the first whose cumulative probability exceeds u, in the vocabulary's order, in float32. A token of
    probability 0 is never drawn, whatever u in [0, 1) is.
    """
    rows, vocabulary = logits_NV.shape
    if temperature == 0:
        certain = logits_NV.new_zeros(rows, dtype=torch.float32)
        return logits_NV.argmax(-1), certain, certain
    if top_p < 1:
        logits_NV, temperature = TopPLogitsWarper(top_p)(None, logits_NV.float() / temperature), 1.0
    chunk = rows if logits_NV.is_cuda else max(1, AT_ONCE // vocabulary)
    if rows <= chunk:
        return _draw(logits_NV, temperature, uniforms_N)
    parts = zip(logits_NV.split(chunk), uniforms_N.split(chunk), strict=True)
    return tuple(map(torch.cat, zip(*(_draw(logits, temperature, u) for logits, u in parts), strict=True)))


def _draw(logits_NV: torch.Tensor, temperature: float, uniforms_N: torch.Tensor):
    logits = logits_NV.float()
    shifted = (logits - logits.amax(-1, keepdim=True)).div_(temperature).clamp_(min=LEAST)
    weights = shifted.exp()
    vocabulary = weights.shape[-1]
    if vocabulary <= 4 * BLOCK:
        total = weights.sum(-1, keepdim=True)
        token, _ = _invert(weights, uniforms_N.unsqueeze(-1) * total)
    else:
        sums = _block_sums(weights)
        total = sums.sum(-1, keepdim=True)
        block, rest = _invert(sums, uniforms_N.unsqueeze(-1) * total)
        places = block * BLOCK + torch.arange(BLOCK, device=block.device)
        within = weights.gather(-1, places.clamp(max=vocabulary - 1)).masked_fill_(places >= vocabulary, 0)
        token = (block * BLOCK + _invert(within, rest)[0]).clamp_(max=vocabulary - 1)  # beyond it where all is NaN
    total = total.squeeze(-1)
    entropy = total.log() - torch.linalg.vecdot(weights, shifted) / total
    return token.squeeze(-1), shifted.gather(-1, token).squeeze(-1) - total.log(), entropy


def _block_sums(weights_NV: torch.Tensor) -> torch.Tensor:
    whole = weights_NV.shape[-1] // BLOCK * BLOCK
    sums = weights_NV[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    return torch.cat([sums, weights_NV[:, whole:].sum(-1, keepdim=True)], dim=-1)


def _invert(weights_NK: torch.Tensor, target_N1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first place of each row where the cumulative sum exceeds the target, and what is left of the target there.
    Its weight is positive: a target that rounding moved up to the sum of all counts as a little less. The place of a
    row of NaN is the last."""
    cumulative = weights_NK.cumsum(-1)
    total = cumulative[:, -1:]
    target = torch.minimum(target_N1, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cumulative, target, right=True).clamp_(max=cumulative.shape[-1] - 1)
    before = cumulative.gather(-1, (place - 1).clamp_(min=0)).masked_fill_(place == 0, 0)
    return place, target - before
