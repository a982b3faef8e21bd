"""The paper's method (arXiv 2604.12160) and those it is compared with, as the switches in which they differ.

All take the same number of optimizer steps and sample the same number of completions: a method without public steps
takes a private step in place of each.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """With `pooled_data` one site has the private problems of all."""

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
