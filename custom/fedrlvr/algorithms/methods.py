"""The paper's method (arXiv 2604.12160) and those it is compared with, as the switches in which they differ.

All take the same number of optimizer steps and sample the same number of completions: a method without public steps
takes a private step in place of each.
"""

from dataclasses import dataclass

from fedrlvr.config import JobConfig


@dataclass(frozen=True)
class Method:
    """With `pooled_data` one site has the private problems of all. Without `private_data` the steps that are private
    elsewhere are taken on the public problems, too: what it lacks is what private problems are worth."""

    public_step: bool = False
    exchange: bool = False
    replace_all: bool = False
    average: bool = True
    pooled_data: bool = False
    private_data: bool = True


METHODS = {
    "pubswap": Method(public_step=True, exchange=True),
    "replace-all": Method(public_step=True, exchange=True, replace_all=True),
    "public-only": Method(public_step=True, exchange=True, private_data=False),
    "fedavg+public": Method(public_step=True),
    "fedavg": Method(),
    "local": Method(average=False),
    "centralised": Method(pooled_data=True),
}


def asks_shares(job: JobConfig) -> bool:
    """Whether sites tell what share of their completions to each public problem was right."""
    method = METHODS[job.method]
    return method.exchange and not method.replace_all and job.swap.rule == "match_global"


def asks_findings(job: JobConfig) -> bool:
    """Whether sites tell, after each step, which public problems they have found answers to and which they fail."""
    return METHODS[job.method].exchange and job.exchange.schedule == "adaptive"


def asks_logprobs(job: JobConfig) -> bool:
    """Whether the log-probabilities of an answer's tokens, under its sender's policy, travel with it."""
    return METHODS[job.method].exchange and job.swap.off_policy == "ratio"
