"""How far the sites' updates pull apart, and what averaging the factors loses."""

from collections.abc import Sequence

import torch

from fedrlvr.algorithms.lora import factor_pairs
from fedrlvr.types import Adapter


def drift(start: Adapter, updates: Sequence[Adapter]) -> dict[str, float]:
    """drift/cosine: mean pairwise cosine of the updates. drift/norm: their mean L2 norm. drift/product_gap: the share
    of the product that fedit loses, ||mean(BA) - mean(B) mean(A)|| / ||mean(BA)||."""
    flat = torch.stack([torch.cat([u[n].flatten().double() for n in sorted(start)]) for u in updates])
    norms = flat.norm(dim=1)
    unit = flat / norms.clamp(min=1e-30).unsqueeze(1)
    count = len(updates)
    cosine = float(((unit @ unit.T).sum() - (unit * unit).sum()) / (count * (count - 1))) if count > 1 else 1.0
    gap = total = 0.0
    for name_a, name_b in factor_pairs(start):
        factors_a = torch.stack([start[name_a].double() + u[name_a].double() for u in updates])
        factors_b = torch.stack([start[name_b].double() + u[name_b].double() for u in updates])
        mean_product = (factors_b @ factors_a).mean(0)
        gap += float((mean_product - factors_b.mean(0) @ factors_a.mean(0)).square().sum())
        total += float(mean_product.square().sum())
    ratio = (gap / total) ** 0.5 if total > 0 else 0.0
    return {"drift/cosine": cosine, "drift/norm": float(norms.mean()), "drift/product_gap": ratio}
