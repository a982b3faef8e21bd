"""LoRA's linear layers, with their sums made in place.

y = W x + s B A x. PEFT makes B A x, its multiple and the sum as three more tensors of the size of y, and as many in the
backward pass. Here each product is added where the sum lies.
"""

from functools import partial

import torch
from peft.tuners.lora import Linear
from torch.nn.functional import linear


def fuse(model: torch.nn.Module) -> None:
    """Have LoRA's layers compute so from now on. Those over anything else than a plain `nn.Linear` stay as they are."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear and not module.lora_variant:
            module.forward = partial(_forward, module)


def _forward(layer: Linear, x: torch.Tensor, *arguments, **more) -> torch.Tensor:
    """PEFT's own is called for all but the common case: one adapter in use, and no dropout."""
    names = [] if layer.disable_adapters or layer.merged else [n for n in layer.active_adapters if n in layer.lora_A]
    drops = any(isinstance(part, torch.nn.Dropout) and part.training for part in layer.lora_dropout.values())
    if len(names) != 1 or drops or arguments or more:
        return Linear.forward(layer, x, *arguments, **more)
    a, b = layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight
    y = _Fused.apply(x.flatten(0, -2), layer.base_layer.weight, layer.base_layer.bias, a, b, layer.scaling[names[0]])
    return y.unflatten(0, x.shape[:-1])


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, a, b, scaling: float):
        inner = linear(x, a)
        ctx.save_for_backward(x, inner, weight, a, b)
        ctx.scaling = scaling
        return linear(x, weight, bias).addmm_(inner, b.T, alpha=scaling)

    @staticmethod
    def backward(ctx, gradient):
        x, inner, weight, a, b = ctx.saved_tensors
        inner_gradient = (gradient @ b).mul_(ctx.scaling)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(inner_gradient, a)
        return x_gradient, None, None, inner_gradient.T @ x, (gradient.T @ inner).mul_(ctx.scaling), None
