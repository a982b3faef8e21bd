"""The LoRA factors that DeepSpeed trains: read whole and in float32, and written back, wherever their parts are."""

from collections.abc import Sequence

import torch
from peft import PeftModel, get_peft_model_state_dict

from fedrlvr.types import Adapter


class Factors:
    """The trained parameters of a model and their masters, which are what the optimizer moves. In bfloat16 a master is
    a float32 copy, and many of a step's changes are too small for the parameter itself. With ZeRO masters are divided
    among the ranks, in stage 3 the parameters, too. All ranks call the methods together."""

    def __init__(self, model: PeftModel, optimized: Sequence[torch.Tensor], stage: int):
        """`optimized` are the parameters of the torch optimizer. Without ZeRO they are the masters, in order."""
        self._model = model
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        names = get_peft_model_state_dict(model, state_dict=self._trained)
        self.named = {name: names[name] for name in sorted(names)}
        self._masters = dict(zip(self._trained.values(), optimized, strict=True)) if stage == 0 else {}

    def read(self) -> Adapter:
        """A copy on the CPU in float32, names sorted, as PEFT calls them."""
        return {name: self._whole(parameter) for name, parameter in self.named.items()}

    def write(self, adapter: Adapter) -> None:
        """Replace them. Without a change of the masters, too, the next step would undo it."""
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_set_full_fp32_param

        with torch.no_grad(), GatheredParameters(list(self.named.values()), modifier_rank=0):
            for name, parameter in self.named.items():
                parameter.copy_(adapter[name])
        for name, parameter in self.named.items():
            if self._masters:
                self._masters[parameter].data.copy_(adapter[name])
            else:
                safe_set_full_fp32_param(parameter, adapter[name].to(parameter.device, torch.float32))

    def for_peft(self) -> dict[str, torch.Tensor]:
        """As `read`, by the names that they have in the model: what PEFT's `save_pretrained` takes."""
        return {name: self._whole(parameter) for name, parameter in self._trained.items()}

    def _whole(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        master = self._masters[parameter] if self._masters else safe_get_full_fp32_param(parameter)
        return master.detach().cpu().clone()
