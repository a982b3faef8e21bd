"""Numbers that are not finite are called so: training on them, or measuring with them, would say nothing."""

import math

import torch

from fedrlvr.learning.model import Policy


class NotFinite(FloatingPointError):
    """A loss, a gradient or a log-probability that is infinite or not a number."""


def check_finite(what: str, value: float, policy: Policy) -> None:
    """Raises NotFinite, which names the policy's first weight that is not finite, if there is one."""
    if math.isfinite(value):
        return
    named = policy.model.named_parameters()
    broken = next((name for name, weight in named if not bool(torch.isfinite(weight).all())), None)
    found = f"the first is {broken}" if broken else "there are none: numbers overflow on the way"
    raise NotFinite(
        f"the {what} is {value}; look for weights of the model that are not finite ({found}), "
        "or lower optimizer.learning_rate"
    )
