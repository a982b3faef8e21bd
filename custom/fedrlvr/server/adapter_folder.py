"""Adapters as standard PEFT directories: what the server keeps of each round, complete or not there at all, and what a
run may start from."""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.algorithms.lora import adapted_layers, excluded
from fedrlvr.config import LoraSettings
from fedrlvr.json_text import from_json
from fedrlvr.peft_folder import CONFIG, FACTORS, ORIGIN, Origin
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.sealed_folder import begin, publish
from fedrlvr.settings_file import SettingsError
from fedrlvr.types import Adapter
from fedrlvr.version import installed

EMPTY = (None, False, "none", {}, [])
# What makes an adapter compute something else than B A x * alpha / r.
OTHER_FORMS = dict.fromkeys(("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save"))


def write_adapter(path: Path, adapter: Adapter, lora: LoraSettings, origin: Origin) -> None:
    """Write `path` as a directory that `PeftModel.from_pretrained` loads; an earlier one there is replaced."""
    unfinished = begin(path)
    (unfinished / FACTORS).write_bytes(as_safetensors(adapter))
    (unfinished / CONFIG).write_text(json.dumps(peft_config(adapter, lora, origin.base_model), indent=2) + "\n")
    (unfinished / ORIGIN).write_text(origin.model_dump_json(indent=2) + "\n")
    publish(path)


def peft_config(names: Iterable[str], lora: LoraSettings, base_model: str) -> dict:
    """What PEFT writes for a model with these factors, but for settings of other adapters than plain LoRA."""
    everywhere = lora.target_modules == "all-linear"
    alpha = lora.alpha
    return {
        "peft_type": "LORA",
        "peft_version": installed("peft"),
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": None,
        "inference_mode": True,
        "r": lora.r,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": lora.dropout,
        "target_modules": adapted_layers(names) if everywhere else list(lora.target_modules),
        "exclude_modules": excluded(names),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
    }


def read_adapter(path: Path, lora: LoraSettings) -> Adapter:
    """The factors of a PEFT directory, float32 and names sorted. Raises SettingsError for what is no LoRA adapter, and
    one of other settings than `lora`; whether it fits the model, its names and shapes tell."""
    try:
        config = from_json((path / CONFIG).read_bytes())
        factors = load_file(path / FACTORS)
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} is no JSON object")
    except (OSError, ValueError, SafetensorError) as error:
        raise SettingsError(
            f"start_from: {path} cannot be read as a PEFT directory with safetensors: {error}"
        ) from None
    expected = {"peft_type": "LORA", "r": lora.r, "lora_alpha": lora.alpha} | OTHER_FORMS
    for name, value in expected.items():
        if (found := config.get(name, value)) != value and not (found in EMPTY and value in EMPTY):
            raise SettingsError(
                f"start_from: {path} has {name} {found!r}, the job's lora needs {value!r}; change either"
            )
    return {name: factors[name].float() for name in sorted(factors)}
