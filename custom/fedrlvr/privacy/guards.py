"""What a receiver checks before it uses something from elsewhere. Whole or not at all: nothing is repaired."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Refused(ValueError):
    """Something from another participant that will not be used, with the reason."""


# A model multiplies two factors with its activations: much beyond this, float32 overflows, and one site's finite 3e38
# would be every site's NaN a round later.
MOST_NORM = 1e9


def check_adapter(
    adapter: Mapping[str, torch.Tensor], spec: Mapping[str, list[int]], max_norm: float | None = None
) -> Mapping[str, torch.Tensor]:
    """The adapter, if it has the same names, shapes and dtype (float32), is finite, and its L2 norm over all tensors is
    at most `max_norm`, and in any case such that a model can compute with it.

    Raises:
        Refused: naming the tensor and what was expected.
    """
    missing, extra = sorted(set(spec) - set(adapter)), sorted(set(adapter) - set(spec), key=str)
    if missing:
        raise Refused(f"tensor {missing[0]} is missing ({len(missing)} in all)")
    if extra:
        raise Refused(f"tensor {extra[0]} is not part of the adapter ({len(extra)} in all)")
    square = 0.0
    for name, shape in spec.items():
        tensor = adapter[name]
        if not isinstance(tensor, torch.Tensor):
            raise Refused(f"{name} is {type(tensor).__name__}, not a tensor")
        if list(tensor.shape) != list(shape):
            raise Refused(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
        if tensor.dtype != torch.float32:
            raise Refused(f"{name} has dtype {tensor.dtype}, expected torch.float32")
        if not bool(torch.isfinite(tensor).all()):
            raise Refused(f"{name} holds values that are not finite")
        square += float(tensor.double().square().sum())
    norm = square**0.5
    if max_norm is not None and norm > max_norm:
        raise Refused(f"L2 norm {norm:.4g} exceeds federation.max_update_norm = {max_norm:.4g}")
    if norm > MOST_NORM:
        raise Refused(f"L2 norm {norm:.4g} is beyond what a model computes with; at most {MOST_NORM:g} is allowed")
    return adapter


MAX_TEXT = 100_000  # characters of one public response


def check_responses(records: object, asked: set[str], limit: int, variants: int) -> list[tuple[str, str, int]]:
    """(problem id, text, variant) of a site's public responses.

    Raises:
        Refused: not a list of {problem_id, text, variant} with text values and a variant in [0, `variants`), a problem
            that was not asked, an over-long text, or more than `limit` responses in all.
    """
    if not isinstance(records, list):
        raise Refused(f"responses are {type(records).__name__}, expected a list")
    if len(records) > limit:
        raise Refused(f"{len(records)} responses, at most {limit} are allowed")
    for record in records:
        if not isinstance(record, dict) or set(record) != {"problem_id", "text", "variant"}:
            raise Refused("a response must have exactly the fields problem_id, text and variant")
        if not (isinstance(record["problem_id"], str) and isinstance(record["text"], str)):
            raise Refused("a response's problem_id and text must be text")
        if type(record["variant"]) is not int or not 0 <= record["variant"] < variants:
            raise Refused(f"a response's variant must be a whole number from 0 to {variants - 1}")
        if record["problem_id"] not in asked:
            raise Refused(f"a response to problem {record['problem_id'][:80]!r}, which was not asked")
        if len(record["text"]) > MAX_TEXT:
            raise Refused(f"a response of {len(record['text'])} characters, at most {MAX_TEXT} are allowed")
    return [(record["problem_id"], record["text"], record["variant"]) for record in records]
