"""What the server keeps of each round: the adapter as a standard PEFT directory, complete or not there at all."""

import json
from pathlib import Path

from fedrlvr.algorithms.lora import excluded
from fedrlvr.config import LoraSettings
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.sealed_folder import begin, publish
from fedrlvr.types import Adapter


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
