"""`fedrlvr settings`: every setting of a preset, a site and the server, as Markdown, from the models that check it."""

import argparse
import math
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.site_config import SiteConfig

NOUNS = {"integer": "whole number", "number": "number", "string": "text"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
REQUIRED = object()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> int:
    print(reference())
    return 0


def files() -> dict[str, type[BaseModel]]:
    """The model of each file, by its heading."""
    from fedrlvr.server.round_store import ServerConfig  # loads torch

    return {
        "A preset": ExperimentConfig,
        "A site's file": SiteConfig,
        "A site's policy": SitePolicy,
        "The server's file": ServerConfig,
    }


def reference() -> str:
    """A heading for each file, and under it a table of the settings of each group."""
    parts = []
    for title, model in files().items():
        schema = model.model_json_schema()
        parts += [f"## {title}", *_tables(schema, schema.get("$defs", {}))]
    return "\n\n".join(parts)


def _tables(schema: dict, models: dict, prefix: str = "", given: dict | None = None) -> Iterator[str]:
    """What the model is for, its own settings, then its groups. `given` are defaults that an outer model sets."""
    yield "\n\n".join(" ".join(paragraph.split()) for paragraph in schema["description"].split("\n\n"))
    rows, groups = [], []
    for name, field in schema["properties"].items():
        default = (given or {}).get(name, field.get("default", REQUIRED))
        model = _model_of(field)
        if model is None:
            shown = "required" if default is REQUIRED else f"`{_as_yaml(default)}`"
            rows.append((f"`{prefix}{name}`", kind(field), shown, field["description"]))
        else:
            groups.append((f"{prefix}{name}", models[model], default))
    if rows:
        lines = [("setting", "type", "default", "meaning"), ("---",) * 4, *rows]
        yield "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    for key, group, default in groups:
        yield f"### `{key}`" + (" (optional)" if default is None else "")
        yield from _tables(group, models, f"{key}.", default if isinstance(default, dict) else None)


def _model_of(field: dict) -> str | None:
    """The name of the model in this field; None where it holds a plain value."""
    references = [part["$ref"] for part in (field, *field.get("anyOf", ())) if "$ref" in part]
    return references[0].removeprefix("#/$defs/") if references else None


def kind(schema: dict, noun_ending: str = "") -> str:
    """A JSON schema's type and bounds in words."""
    if "anyOf" in schema:
        return " or ".join(kind(part, noun_ending) for part in schema["anyOf"] if part.get("type") != "null")
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].lower() + noun_ending
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if schema["type"] == "boolean":
        return "`true`, `false`"
    if schema["type"] == "object":
        return f"mapping of names to {kind(schema['additionalProperties'], 's')}" + _not_empty(schema, "minProperties")
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} {kind(schema['prefixItems'][0], 's')}"
    if schema["type"] == "array":
        return f"list of {kind(schema['items'], 's')}" + _not_empty(schema, "minItems")
    noun = "path" if schema.get("format") == "path" else NOUNS[schema["type"]]
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in BOUNDS.items() if bound in schema]
    bounds += [f"like `{schema['pattern']}`"] if "pattern" in schema else []
    return f"{noun}{noun_ending} {', '.join(bounds)}".rstrip()


def _not_empty(schema: dict, bound: str) -> str:
    return ", not empty" if schema.get(bound) else ""


def _as_yaml(value: object) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
