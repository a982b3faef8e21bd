"""Adapters as standard PEFT directories: what the server keeps of each round, complete or not there at all, and what a
run may start from."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.algorithms.lora import excluded
from fedrlvr.config import LoraSettings
from fedrlvr.json_text import from_json
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.sealed_folder import begin, publish
from fedrlvr.settings_file import SettingsError
from fedrlvr.types import Adapter

EMPTY = (None, False, "none", {}, [])
# What makes an adapter compute something else than B A x * alpha / r.
OTHER_FORMS = dict.fromkeys(("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save"))


def write_adapter(path: Path, adapter: Adapter, lora: LoraSettings, base_model: str) -> None:
    """Write `path` as a directory that `PeftModel.from_pretrained` loads; an earlier one there is replaced."""
    unfinished = begin(path)
    (unfinished / "adapter_model.safetensors").write_bytes(as_safetensors(adapter))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "target_modules": lora.target_modules,
        "exclude_modules": excluded(adapter),
        "lora_dropout": lora.dropout,
        "bias": "none",
        "inference_mode": True,
    }
    (unfinished / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    publish(path)


def read_adapter(path: Path, lora: LoraSettings) -> Adapter:
    """The factors of a PEFT directory, float32 and names sorted. Raises SettingsError for what is no LoRA adapter, and
    one of other settings than `lora`; whether it fits the model, its names and shapes tell."""
    try:
        config = from_json((path / "adapter_config.json").read_bytes())
        factors = load_file(path / "adapter_model.safetensors")
        if not isinstance(config, dict):
            raise ValueError("adapter_config.json is no JSON object")
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
