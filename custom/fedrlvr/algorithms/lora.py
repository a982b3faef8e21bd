"""LoRA factors by name: pairing A with B, and the one initial adapter that all sites start from."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import torch

from fedrlvr.config import LoraSettings
from fedrlvr.streams import seed_of
from fedrlvr.types import Adapter

A_MARK, B_MARK = ".lora_A.", ".lora_B."


def factor_pairs(names) -> list[tuple[str, str]]:
    """(A name, B name) of every adapted layer, sorted. Raises ValueError for a name that is neither, or a factor
    without its partner."""
    names = set(names)
    pairs = []
    for name in sorted(names):
        if A_MARK not in name and B_MARK not in name:
            raise ValueError(f"{name} is not a LoRA factor (neither {A_MARK!r} nor {B_MARK!r} in its name)")
        partner = name.replace(A_MARK, B_MARK) if A_MARK in name else name.replace(B_MARK, A_MARK)
        if partner not in names:
            raise ValueError(f"{name} has no partner {partner}")
        if A_MARK in name:
            pairs.append((name, partner))
    return pairs


def is_of_language_model(name: str) -> bool:
    """Whether a module, or a factor, belongs to that part of a model that also sees or hears."""
    return ".language_model." in f".{name}"


def excluded(names: Iterable[str]) -> str | None:
    """PEFT's `exclude_modules` for a model, or an adapter, with these names: everything outside of the language model,
    where that is only a part. No text passes the rest, so factors there would never train."""
    return r"(?!(.*\.)?language_model\.).*" if any(map(is_of_language_model, names)) else None


def adapted_layers(names: Iterable[str]) -> list[str] | str:
    """What `all-linear` came to, as `target_modules` lists it: the last parts of the layers' names, or whole names
    where a last part is a number, which blocks of layers are called by, too. Where factors are of a mixture's experts,
    which are no layers, it stays `all-linear`: PEFT finds them by that."""
    if any(".base_layer." in name for name in names):
        return "all-linear"
    layers = {name.removeprefix("base_model.model.").split(A_MARK)[0] for name in names if A_MARK in name}
    last = {layer.rpartition(".")[2] for layer in layers}
    return sorted(layers if any(map(str.isdigit, last)) else last)


def adapter_spec(adapter: Adapter) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in sorted(adapter.items())}


def spec_hash(spec: Mapping[str, list[int]], lora: LoraSettings) -> str:
    """SHA-256 of an adapter's names, shapes and settings: sites that agree on it train the same parameters."""
    text = json.dumps([sorted((name, list(shape)) for name, shape in spec.items()), lora.model_dump(mode="json")])
    return hashlib.sha256(text.encode()).hexdigest()


def initial_adapter(spec: Mapping[str, list[int]], seed: int) -> Adapter:
    """A uniform in +-1/sqrt(fan_in) (PEFT's default, kaiming with a = sqrt 5), B = 0: the base model unchanged.

    Each tensor has its own stream, so the draw does not depend on how many layers are adapted.
    """
    adapter = {}
    for name_a, name_b in factor_pairs(spec):
        generator = torch.Generator().manual_seed(seed_of(seed, "lora_A", name_a))
        bound = spec[name_a][-1] ** -0.5
        adapter[name_a] = (torch.rand(spec[name_a], generator=generator) * 2 - 1) * bound
        adapter[name_b] = torch.zeros(spec[name_b])
    return dict(sorted(adapter.items()))
