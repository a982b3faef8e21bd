"""What the sites of a job must have in common, by what most of them have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from fedrlvr.algorithms.lora import AdapterSpec


def agreement(said: Mapping[str, tuple[str, AdapterSpec]]) -> tuple[AdapterSpec, dict[str, str]]:
    """From each site's base-model fingerprint and adapter shapes: the agreed shapes, names sorted, and the sites that
    have something else, with the reason. The shapes are those of most sites that have the usual model. Where as many
    say one thing as another, the first site's is taken."""
    if not said:
        return {}, {}
    usual = Counter(model for model, _ in said.values()).most_common(1)[0][0]
    specs = Counter(json.dumps(spec, sort_keys=True) for model, spec in said.values() if model == usual)
    agreed = json.loads(specs.most_common(1)[0][0])
    dissenters = {}
    for site, (model, spec) in said.items():
        if model != usual:
            dissenters[site] = f"base model differs: most sites have {usual}, this one {model}"
        elif spec != agreed:
            dissenters[site] = _difference(spec, agreed)
    return agreed, dissenters


def _difference(spec: AdapterSpec, agreed: AdapterSpec) -> str:
    """By the first tensor; its name may come from the site that differs."""
    name = min(name for name in spec.keys() | agreed.keys() if spec.get(name) != agreed.get(name))
    has, usual = (shapes.get(name, "missing") for shapes in (spec, agreed))
    return f"adapter differs: {name[:200]!r} is {usual} at most sites, {has} at this one"
