"""A model with an adapter merged into its weights, as a plain Hugging Face directory."""

import shutil
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError

from fedrlvr.config import PromptSettings
from fedrlvr.learning.model import load_trained
from fedrlvr.site_config import LocalModel

ENDINGS = (".json", ".jinja", ".model", ".txt")  # of tokenizers, templates and generation settings
TERMS = ("license", "notice", "use_policy")  # how files begin that have to come with a model


def merge(settings: LocalModel, adapter: Path, folder: Path) -> int:
    """Write the merged model into the empty `folder`, its weights of the number type of the model's files, beside the
    model's own tokenizer, chat template, generation settings and terms. Returns how many layers were adapted. Raises
    ValueError as `load_trained`, and OSError."""
    policy = load_trained(settings, adapter, PromptSettings(), torch.device("cpu"), "auto")
    layers = sum(1 for module in policy.model.modules() if isinstance(module, LoraLayer))
    try:
        merged = policy.model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # a weight that is not a number
        raise ValueError(f"{adapter}: cannot be merged: {error}") from None
    try:
        merged.save_pretrained(folder)
    except SafetensorError as error:  # a full disk, for one
        raise OSError(f"{folder}: cannot be written: {error}") from None
    for path in sorted(settings.model_path.iterdir()):
        if path.is_file() and _comes_along(path.name):
            shutil.copyfile(path, folder / path.name)
    return layers


def _comes_along(name: str) -> bool:
    """Whether a model's file belongs to the merged model as it is."""
    lower = name.lower()
    weights = lower == "config.json" or lower.endswith(".index.json") or lower.startswith("adapter_")
    return not weights and (lower.endswith(ENDINGS) or lower.startswith(TERMS))
