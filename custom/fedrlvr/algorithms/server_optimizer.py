"""What the server makes of a round's average: it takes its difference to the round's start as a gradient (FedOpt,
arXiv 2003.00295).

Each optimizer takes the start, the average and its moments, and returns the next adapter and moments. Moments are
tensors by the names that `moments_spec` gives; before the first round there are none. They are rounded to float32 after
each round, so that a run that goes on from what was kept ends in the same bytes.
"""

from collections.abc import Mapping, Sequence

import torch

from fedrlvr.config import FederationSettings
from fedrlvr.types import Adapter

Moments = dict[str, torch.Tensor]
MOMENTS = {"none": (), "momentum": ("m",), "adam": ("m", "v")}


def server_step(
    start: Adapter, average: Adapter, moments: Moments, federation: FederationSettings
) -> tuple[Adapter, Moments]:
    """The next adapter and moments by the optimizer that `federation.server_optimizer` names."""
    rate = federation.server_learning_rate
    match federation.server_optimizer:
        case "momentum":
            return momentum(start, average, moments, rate, federation.server_momentum)
        case "adam":
            return adam(start, average, moments, rate, federation.server_betas, federation.server_tau)
    return average, {}


def momentum(start: Adapter, average: Adapter, moments: Moments, rate: float, beta: float) -> tuple[Adapter, Moments]:
    """FedAvgM (arXiv 1909.06335): m = beta m + d, then start + rate m."""
    adapter, after = {}, {}
    for name, tensor in start.items():
        difference = average[name].double() - tensor.double()
        m = beta * moments[f"m.{name}"].double() + difference if moments else difference
        adapter[name] = (tensor.double() + rate * m).to(tensor.dtype)
        after[f"m.{name}"] = m.float()
    return adapter, after


def adam(
    start: Adapter, average: Adapter, moments: Moments, rate: float, betas: tuple[float, float], tau: float
) -> tuple[Adapter, Moments]:
    """FedAdam (arXiv 2003.00295, algorithm 2): m and v are decaying means of d and d^2, then
    start + rate m / (sqrt(v) + tau). Nothing corrects their bias; v begins at tau^2."""
    adapter, after = {}, {}
    for name, tensor in start.items():
        difference = average[name].double() - tensor.double()
        m, v = torch.zeros_like(difference), torch.full_like(difference, tau**2)
        if moments:
            m, v = (moments[f"{moment}.{name}"].double() for moment in "mv")
        m = betas[0] * m + (1 - betas[0]) * difference
        v = betas[1] * v + (1 - betas[1]) * difference.square()
        adapter[name] = (tensor.double() + rate * m / (v.sqrt() + tau)).to(tensor.dtype)
        after |= {f"m.{name}": m.float(), f"v.{name}": v.float()}
    return adapter, after


def moments_spec(spec: Mapping[str, Sequence[int]], federation: FederationSettings) -> dict[str, Sequence[int]]:
    """Names and shapes of the moments for an adapter of these names and shapes, after the first round."""
    kinds = MOMENTS[federation.server_optimizer]
    return {f"{moment}.{name}": shape for moment in kinds for name, shape in spec.items()}
