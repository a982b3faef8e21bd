"""What the sites of a job must have in common, by what most of them have."""

import json
from collections import Counter
from collections.abc import Mapping

from fedrlvr.protocol.answers import ValidateAnswer
from fedrlvr.protocol.records import AdapterSpec


def agree_on_model(answers: Mapping[str, ValidateAnswer]) -> tuple[AdapterSpec, dict[str, str]]:
    """The adapter shapes that the sites go by, names sorted, and the sites that have another model or other shapes,
    with the reason. The usual model is that of most sites, the shapes are those of most sites that have it. Of equally
    many, the first site's count."""
    if not answers:
        return {}, {}
    usual = Counter(answer.base_model for answer in answers.values()).most_common(1)[0][0]
    specs = Counter(json.dumps(a.adapter_spec, sort_keys=True) for a in answers.values() if a.base_model == usual)
    agreed = json.loads(specs.most_common(1)[0][0])
    dissenters = {}
    for site, answer in answers.items():
        if answer.base_model != usual:
            dissenters[site] = f"base model differs: most sites have {usual}, this one {answer.base_model}"
        elif answer.adapter_spec != agreed:
            dissenters[site] = _difference(answer.adapter_spec, agreed)
    return agreed, dissenters


def _difference(spec: AdapterSpec, agreed: AdapterSpec) -> str:
    """Of the first tensor that differs."""
    name = min(name for name in spec.keys() | agreed.keys() if spec.get(name) != agreed.get(name))
    has, usual = (shapes.get(name, "missing") for shapes in (spec, agreed))
    return f"adapter differs: {name!r} is {usual} at most sites, {has} at this one"
