"""Which linear layers of a model may get LoRA factors."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from fedrlvr.algorithms.lora import is_of_language_model
from fedrlvr.config import LoraSettings

OTHER_SENSES = ("vision", "visual", "image", "audio")  # in the names of layers for pictures and sound
# Architectures whose fused kernels read the weights of out_proj themselves: PEFT refuses factors there.
FUSED_OUT_PROJ = {"falcon_h1", "nemotron_h"}


def check_targets(model: PreTrainedModel, lora: LoraSettings, path: Path) -> None:
    """Raises ValueError for a target of `lora` that no linear layer for text is called, and for a model in which layers
    for text cannot be told from others."""
    layers = list(_linear_layers(model))
    if any(map(is_of_language_model, layers)):
        layers = [name for name in layers if is_of_language_model(name)]
    elif foreign := [name for name in layers if any(sense in name for sense in OTHER_SENSES)]:
        raise ValueError(
            f"{path}: its layers for pictures or sound, such as {foreign[0]}, are not kept apart from its language "
            "model, so an adapter for text cannot leave them out; use a model for text"
        )
    called = sorted({name.rsplit(".", 1)[-1] for name in layers})
    if lora.target_modules == "all-linear":
        if model.config.model_type in FUSED_OUT_PROJ:
            rest = ", ".join(name for name in called if name != "out_proj")
            raise ValueError(
                f"lora.target_modules: all-linear: {path} is a {model.config.model_type}, whose kernels read the "
                f"weights of out_proj without an adapter; name other layers: [{rest}]"
            )
        return
    for target in lora.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise ValueError(
                f"lora.target_modules: no linear layer of {path} is called {target!r}; "
                f"it has {', '.join(called)}; or use all-linear"
            )


def _linear_layers(model: PreTrainedModel) -> Iterator[str]:
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield name
