"""Whether an engine that computes by other code samples from the same distribution as the one that is trained."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from fedrlvr.algorithms.loss import token_logprobs
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.generator import Sample
from fedrlvr.learning.model import Policy

LOGGER = logging.getLogger(__name__)
TEMPERATURE = 0.7  # not 1, where log-probabilities of the wrong temperature would not show
LENGTHS = (3, 5, 8, 13)  # of the prompts, in tokens
GROUP, LENGTH = 4, 12
STD = 0.05  # of the factors that the trial's adapter has instead of zeros
# Largest mean and largest single difference of log-probabilities, in nats.
LIMITS = {torch.float32: (1e-3, 0.05), torch.bfloat16: (0.1, 2.0)}
EXACT = 1e-3  # the largest difference where log-probabilities of sampling can be kept


@dataclass(frozen=True)
class Agreement:
    """Differences of log-probabilities, in nats."""

    mean: float
    largest: float


def check_agreement(
    name: str, policy: Policy, sample: Callable[..., list[list[Sample]]], adapter_changed: Callable[[], None]
) -> bool:
    """Sample from the base model, and with an adapter that changes it, and score the same by the worker's own model.
    Whether the log-probabilities of sampling can be kept. Raises ValueError where they differ by more than rounding."""
    exact = True
    with policy.model.disable_adapter():
        exact &= _check(f"{name}, base model", policy, sample)
    with _made_up_factors(policy):
        adapter_changed()
        exact &= _check(f"{name}, with an adapter", policy, sample)
    adapter_changed()
    return exact


def _check(name: str, policy: Policy, sample: Callable[..., list[list[Sample]]]) -> bool:
    prompts = [policy.meaningless(length, length) for length in LENGTHS]
    uniforms = torch.rand(len(prompts) * GROUP, LENGTH, generator=torch.Generator().manual_seed(0))
    found = compare(policy, prompts, sample(prompts, TEMPERATURE, uniforms), TEMPERATURE)
    said = f"log-probabilities differ by {found.mean:.2g} on average and at most by {found.largest:.2g}"
    mean, largest = LIMITS[policy.model.dtype]
    if not (found.mean <= mean and found.largest <= largest):
        raise ValueError(
            f"{name}: {said}, where {mean:g} and {largest:g} are allowed in {policy.model.dtype}; it samples from "
            "another model, at another temperature, or without the adapter"
        )
    LOGGER.info("%s: %s", name, said)
    return policy.model.dtype == torch.float32 and found.largest <= EXACT


@torch.no_grad()
def compare(policy: Policy, prompts, groups: list[list[Sample]], temperature: float) -> Agreement:
    """The samples' log-probabilities beside those of the model's own forward pass."""
    pairs = [(prompt, one) for prompt, group in zip(prompts, groups, strict=True) for one in group]
    rows = [Row(prompt, one.token_ids, old_logprobs=one.logprobs) for prompt, one in pairs]
    batch = collate(rows, policy.pad_id, policy.model.device)
    width = batch.completion_ids.shape[1]
    logits = policy.model(**batch.inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
    own = token_logprobs(logits, batch.completion_ids, temperature)
    differences = (own - batch.old_logprobs)[batch.mask].abs()
    return Agreement(float(differences.mean()), float(differences.max()))


@contextmanager
def _made_up_factors(policy: Policy) -> Iterator[None]:
    own = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(policy.model).items()}
    random = torch.Generator().manual_seed(0)
    made = {name: (torch.randn(t.shape, generator=random) * STD).to(t) for name, t in own.items() if "lora_B" in name}
    set_peft_model_state_dict(policy.model, own | made)
    try:
        yield
    finally:
        set_peft_model_state_dict(policy.model, own)
