"""Reading settings: YAML plus `key=value` overrides into a validated model, with errors a person can act on."""

import difflib
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from fedrlvr.json_text import shown
from fedrlvr.other_names import OTHER_NAMES
from fedrlvr.yaml_text import MAX_BYTES, YamlError, from_yaml

S = TypeVar("S", bound=BaseModel)
_LISTED = 20  # of the errors in one file


class SettingsError(ValueError):
    """A setting that cannot be used. The message names file, key, what was found and what was expected."""


def load_settings(model: type[S], path: Path) -> S:
    """Read `path` into `model`; relative paths in it are taken from its folder. Raises SettingsError, also for a file
    that is missing or not YAML."""
    return validate_settings(model, read_yaml(path), str(path), path.resolve().parent)


def validate_settings(model: type[S], values: dict, source: str, folder: Path | None = None) -> S:
    """`values` as a `model`, relative paths taken from `folder`. Raises SettingsError, which begins with `source`, for
    an unknown key (with the nearest known one), a wrong type or an impossible combination."""
    try:
        return model.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        items = error.errors()
        lines = [_explain(model, item) for item in items[:_LISTED]]
        if len(items) > _LISTED:
            lines.append(f"and {len(items) - _LISTED} more errors")
        raise SettingsError("\n".join(f"{source}: {line}" for line in lines)) from None


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            values = from_yaml(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except YamlError as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    return values


def apply_override(values: dict, text: str) -> None:
    """Set one dotted key in nested `values` from "a.b=c", with c read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {text}: expected key=value, as in --set grpo.epsilon=0.3")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {text}: {parent} is a value, not a group of settings")
    try:
        values[leaf] = from_yaml(value)
    except YamlError as error:
        raise SettingsError(f"--set {shown(text)}: {error}") from None


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of `model`, groups included."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += known_keys(kind, f"{prefix}{name}.")
    return keys


def _explain(model: type[BaseModel], item: dict) -> str:
    # For a setting of several types pydantic adds the type that it tried to the key, such as "tuple[str, ...]".
    key = shown(".".join(str(part) for part in item["loc"] if "[" not in str(part)))
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown setting; {_hint(key, known_keys(model))}"
    if item["type"] == "missing":
        return f"{key}: required setting is missing"
    if not key:
        return item["msg"].removeprefix("Value error, ")
    if item["type"] == "tuple_type":
        return f"{key}: expected a list (found {item['input']!r:.80})"
    return f"{key}: {item['msg']} (found {item['input']!r:.80})"


def _hint(key: str, known: list[str]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    meant = OTHER_NAMES.get(leaf, "")
    if meant is None:
        return "there is none, as app_configs/NAMES.md explains"
    return f"did you mean {meant if meant in known or meant.startswith('--') else _nearest(key, known)}?"


def _nearest(key: str, known: list[str]) -> str:
    """The known key that is almost the same; else the one whose last part is alike; else whichever is nearest."""
    leaves = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
    alike = difflib.get_close_matches(key.rsplit(".", 1)[-1], leaves, 1, 0.6)
    same = difflib.get_close_matches(key, known, 1, 0.8)
    return (same or [leaves[leaf] for leaf in alike] or difflib.get_close_matches(key, known, 1, 0.0))[0]
