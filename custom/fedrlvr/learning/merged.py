"""The adapter's factors added to the weights while sampling: one matrix product for each layer instead of three."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers import PreTrainedModel


@contextmanager
def merged(model: PeftModel | PreTrainedModel) -> Iterator[None]:
    """During the block every plain LoRA layer that acts is a linear layer with the sum of its weights. The layers
    themselves are not touched; the sums are a second copy of the adapted weights."""
    replaced = [(parent, name, layer) for parent, name, layer in _lora_layers(model) if _can_be_merged(layer)]
    try:
        for parent, name, layer in replaced:
            parent._modules[name] = _Merged(layer)
        yield
    finally:
        for parent, name, layer in replaced:
            parent._modules[name] = layer


def bytes_of_sums(model: PeftModel | PreTrainedModel) -> int:
    """What `merged` takes."""
    return sum(layer.base_layer.weight.nbytes for _, _, layer in _lora_layers(model) if _can_be_merged(layer))


def _lora_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, LoraLinear]]:
    for parent in list(model.modules()):
        for name, layer in list(parent._modules.items()):
            if isinstance(layer, LoraLinear):
                yield parent, name, layer


def _can_be_merged(layer: LoraLinear) -> bool:
    """Whether the layer computes W x + s B A x: no other variant of LoRA, no other base layer, and no dropout now."""
    acts = [name for name in layer.active_adapters if name in layer.lora_A]
    dropout = layer.training and any(isinstance(layer.lora_dropout[name], nn.Dropout) for name in acts)
    plain = type(layer) is LoraLinear and type(layer.base_layer) is nn.Linear and not layer.fan_in_fan_out
    special = any(name in layer.lora_variant or layer.lora_bias[name] for name in acts)
    return plain and bool(acts) and not (layer.disable_adapters or layer.merged or dropout or special)


class _Merged(nn.Module):
    """Computes what the layer does. `weight` is the base layer's, as in the layer: some models read it themselves."""

    def __init__(self, layer: LoraLinear):
        super().__init__()
        self.weight, self.bias, self._sum = layer.weight, layer.bias, _sum(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self._sum, self.bias)


def _sum(layer: LoraLinear) -> torch.Tensor:
    """Of the layer's weights and its active factors, in float32 and rounded once."""
    weight = layer.weight.detach()
    result = weight.float()
    for name in layer.active_adapters:
        if name in layer.lora_A:
            a, b = layer.lora_A[name].weight.detach().float(), layer.lora_B[name].weight.detach().float()
            result = torch.addmm(result, b, a, alpha=layer.scaling[name])
    return result.to(weight.dtype)
