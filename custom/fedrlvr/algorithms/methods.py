"""The methods a comparison must contain, each as the few switches in which it differs (METHOD: the comparison).

All take the same number of optimizer steps and sample the same number of completions: where a method has no public
step, a private one takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    public_step: bool = False
    exchange: bool = False
    replace_all: bool = False
    average: bool = True
    pooled_data: bool = False


METHODS = {
    "pubswap": Method(public_step=True, exchange=True),
    "replace-all": Method(public_step=True, exchange=True, replace_all=True),
    "fedavg+public": Method(public_step=True),
    "fedavg": Method(),
    "local": Method(average=False),
    "centralised": Method(pooled_data=True),
}
