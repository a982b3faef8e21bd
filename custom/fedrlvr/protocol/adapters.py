"""What a receiver checks of an adapter before it uses it, and how large one is."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from safetensors.torch import save

from fedrlvr.protocol.refused import Refused
from fedrlvr.types import Adapter

# A model multiplies two factors with its activations: much beyond this, float32 overflows, and one site's finite 3e38
# would be every site's NaN a round later.
MOST_NORM = 1e9


def check_adapter(adapter: Adapter, spec: Mapping[str, Sequence[int]], max_norm: float | None = None) -> Adapter:
    """The adapter, if `check_tensors` lets it in, and its L2 norm over all tensors is at most `max_norm`, and in any
    case such that a model can compute with it. Raises Refused."""
    check_tensors(adapter, spec)
    norm = sum(float(tensor.double().square().sum()) for tensor in adapter.values()) ** 0.5
    if max_norm is not None and norm > max_norm:
        raise Refused(f"L2 norm {norm:.4g} exceeds federation.max_update_norm = {max_norm:.4g}")
    if norm > MOST_NORM:
        raise Refused(f"L2 norm {norm:.4g} is beyond what a model computes with; at most {MOST_NORM:g} is allowed")
    return adapter


def check_tensors(tensors: Mapping[str, torch.Tensor], spec: Mapping[str, Sequence[int]]) -> Mapping[str, torch.Tensor]:
    """The tensors, if they have exactly the names and shapes of `spec`, and are float32 and finite. Raises Refused,
    naming the tensor of `spec` and what was expected."""
    missing, extra = sorted(set(spec) - set(tensors)), sorted(set(tensors) - set(spec), key=str)
    if missing:
        raise Refused(f"tensor {missing[0]} is missing ({len(missing)} in all)")
    if extra:
        raise Refused(f"tensors that are not part of the adapter: {len(extra)}")
    for name, shape in spec.items():
        tensor = tensors[name]
        if not isinstance(tensor, torch.Tensor):
            raise Refused(f"{name} is {type(tensor).__name__}, not a tensor")
        if list(tensor.shape) != list(shape):
            raise Refused(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
        if tensor.dtype != torch.float32:
            raise Refused(f"{name} has dtype {tensor.dtype}, expected torch.float32")
        if not bool(torch.isfinite(tensor).all()):
            raise Refused(f"{name} holds values that are not finite")
    return tensors


def check_unmoved(update: Adapter, frozen: Iterable[str]) -> Adapter:
    """The update, if it is 0 for the factors that are frozen in this round. Raises Refused."""
    for name in sorted(frozen):
        if bool(update[name].any()):
            raise Refused(f"{name} moved, but federation.aggregator freezes it in this round")
    return update


def as_safetensors(adapter: Adapter) -> bytes:
    """The adapter's bytes as safetensors, names sorted: what is written, hashed and sent.

    Not `save_file`, whose error on a full disk is no OSError.
    """
    return save({name: adapter[name].contiguous() for name in sorted(adapter)})


def adapter_hash(adapter: Adapter) -> str:
    """SHA-256 of names, shapes and numbers."""
    return hashlib.sha256(as_safetensors(adapter)).hexdigest()


def payload_size(adapter: Adapter) -> int:
    """Bytes of the numbers alone, without names."""
    return sum(tensor.numel() * tensor.element_size() for tensor in adapter.values())
