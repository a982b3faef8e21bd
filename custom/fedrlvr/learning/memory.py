"""How many completions fit into memory while they are sampled."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedModel

from fedrlvr.data.tokenizer import brief
from fedrlvr.learning.cache import RowCache, unfit

# Of the free memory, for keys, values and logits. The rest is for activations and fragments, and on a CPU for the
# workers of other sites. There the kernel kills instead of raising an error.
SHARE_OF_GPU, SHARE_OF_CPU = 0.5, 0.25
GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # control groups, version 2
COPIES = 4  # of a row's logits, in float32: the model's own, temporary ones, and those made when rows join


class RowMemory:
    """What completions take while they are sampled from `model`. A model on torch's meta device will do."""

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel | PeftModel):
        """Read two tokens, and keep the shapes of what the model has in its cache then. Raises ValueError where the
        model's cache is of a kind that `RowCache` cannot hold."""
        self.config, self.device = model.config, model.device
        problem = unfit(model.config)
        if not problem:
            try:
                cache = DynamicCache(config=model.config)
                ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
                logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
                if cache.get_seq_length() != ids.shape[1]:
                    raise ValueError("it does not keep its keys and values in a DynamicCache")
                self._cache, self._logits = _shapes(cache), COPIES * logits.shape[-1] * torch.float32.itemsize
            except Exception as error:  # each architecture has its own
                problem = brief(error)
        if problem:
            raise ValueError(
                f"{model.config.model_type}: rollout.engine cached cannot sample from this architecture: {problem}"
            )

    def bytes(self, columns: int) -> int:
        """Of one row of at most `columns` tokens, prompt included."""
        rows = RowCache(self.config, 1, columns)
        rows.add(self._cache, torch.zeros(1, dtype=torch.long))
        return sum(tensor.nbytes for layer in rows.layers for _, _, tensor in _tensors(layer)) + self._logits

    def rows_that_fit(self, columns: int) -> int:
        """How many such rows fit into the memory that is free now: a power of two, so that it seldom differs between
        two runs on one machine."""
        rows = int(free_memory(self.device) * share_of_rows(self.device) / self.bytes(columns))
        return 2 ** (max(rows, 1).bit_length() - 1)


def share_of_rows(device: torch.device) -> float:
    """Of the free memory."""
    return SHARE_OF_GPU if device.type == "cuda" else SHARE_OF_CPU


def free_memory(device: torch.device) -> int:
    """In bytes: of the GPU, with what PyTorch holds and does not use; else of the machine, or of this process's
    control group, whichever has less."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _shapes(cache: DynamicCache) -> DynamicCache:
    """The same cache on torch's meta device: shapes without memory."""
    for layer in cache.layers:
        for place, name, tensor in list(_tensors(layer)):
            place[name] = tensor.to("meta")
    return cache


def _tensors(layer) -> Iterator[tuple[dict, str, torch.Tensor]]:
    """Every tensor of a cache layer, and where it is."""
    places = [vars(layer), *(value for value in vars(layer).values() if isinstance(value, dict))]
    yield from ((place, name, t) for place in places for name, t in place.items() if isinstance(t, torch.Tensor))


def _left_in_groups() -> list[int]:
    """What the control groups of this process leave of their limits."""
    own = OWN_GROUP.read_text().splitlines() if OWN_GROUP.is_file() else []
    path = next((line.removeprefix("0::/") for line in own if line.startswith("0::/")), None)
    if path is None:
        return []
    limits = [folder / "memory.max" for folder in (GROUPS / path, *(GROUPS / path).parents)]
    known = [limit for limit in limits if limit.is_file() and limit.read_text().strip() != "max"]
    return [int(limit.read_text()) - int(limit.with_name("memory.current").read_text()) for limit in known]
