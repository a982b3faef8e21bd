"""What a rank's memory must hold, worked out before a run from the model's configuration alone.

The model is built on torch's meta device, where tensors have shapes and no memory. Its forward pass over a micro-batch
says what training keeps for its backward pass.
"""

import math
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM

from fedrlvr.config import JobConfig
from fedrlvr.learning.batch import Row
from fedrlvr.learning.fused_lora import fuse
from fedrlvr.learning.head import LOGITS_AT_ONCE
from fedrlvr.learning.memory import RowMemory
from fedrlvr.learning.merged import bytes_of_sums
from fedrlvr.learning.model import DTYPES, with_factors
from fedrlvr.learning.packed_attention import packed_forward
from fedrlvr.learning.packing import pack
from fedrlvr.site_config import LocalModel

LIBRARIES = 2**29  # of a worker process on the CPU; on a GPU, CUDA's own take about as much
MOMENTS = 2  # of Adam
FOUR_BITS = 1 / 2 + 4 / 64  # bytes of a weight: half a byte, and a float32 scale for 64 of them


@dataclass(frozen=True)
class Requirement:
    """Bytes of one rank. `sampling` is for `rows` completions at once, and the copy of the weights with the adapter
    added; `training` for one micro-batch: what its layers keep, and a chunk of logits."""

    weights: float
    adapter: float
    sampling: float
    training: float
    rows: int

    def total(self, on_gpu: bool) -> float:
        """PyTorch uses what sampling leaves of a GPU's memory for training, and the other way round. On a CPU little of
        it comes back."""
        both = max(self.sampling, self.training) if on_gpu else self.sampling + self.training
        return LIBRARIES + self.weights + self.adapter + both


def requirement(
    site: LocalModel, job: JobConfig, stage: int, prompt_tokens: int, free: float | None = None
) -> Requirement:
    """For prompts of so many tokens and completions of full length. At most `free` bytes are for the completions in
    sampling; None: all of a step at once. Raises ValueError where a model's cache is of a kind that cannot be held,
    and what an architecture raises that needs more than shapes."""
    model, ranks, grpo = _on_meta(site, job), site.processes, job.grpo
    completions = math.ceil(grpo.prompts_per_step / ranks) * grpo.num_generations
    frozen = [p for p in model.parameters() if not p.requires_grad]
    weights = sum(p.nbytes for p in frozen)
    if site.load_in_4bit:
        weights -= sum(weight.nbytes - FOUR_BITS * weight.numel() for weight in _quantised(model))
    if stage == 3:  # and whole while they are used: the largest, and the head
        weights = weights / ranks + 2 * max(p.nbytes for p in frozen)
    sampling, rows = 0.0, 0
    if site.rollout.engine == "cached":
        row = RowMemory(model).bytes(prompt_tokens + grpo.max_completion_length)
        rows = min(completions, site.generation_batch_size or completions)
        rows = rows if free is None else max(1, min(rows, int(free / row)))
        sampling = rows * row + (0 if stage == 3 or site.load_in_4bit else bytes_of_sums(model))
    training = _training(model, site, job, prompt_tokens, min(site.micro_batch_size, completions))
    return Requirement(weights, _adapter(model, stage, ranks), sampling, training, rows)


def _on_meta(site: LocalModel, job: JobConfig) -> PeftModel:
    config = AutoConfig.from_pretrained(site.model_path, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[site.dtype], attn_implementation="sdpa")
        model = with_factors(model, job.lora).eval()
    model.to(DTYPES[site.dtype])  # PEFT gives factors the type of the weights, but not on this device
    fuse(model)
    return model


def _quantised(model: PeftModel) -> list[torch.Tensor]:
    """The weights that bitsandbytes keeps in 4 bits: of all linear layers but the head."""
    head = model.get_output_embeddings()
    linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return [layer.weight for layer in linear if not layer.weight.requires_grad]


def _adapter(model: PeftModel, stage: int, ranks: int) -> float:
    """The factors, their gradients and Adam's moments; masters where the factors are not float32 or are divided."""
    trained = [p for p in model.parameters() if p.requires_grad]
    own, whole = sum(p.nbytes for p in trained), sum(p.numel() for p in trained) * torch.float32.itemsize
    masters = 2 * whole if stage or own != whole else 0  # with a gradient
    divided = ranks if stage else 1
    return own + own / (ranks if stage > 1 else 1) + (MOMENTS * whole + masters) / divided


def _training(model: PeftModel, site: LocalModel, job: JobConfig, prompt_tokens: int, count: int) -> float:
    length, group = job.grpo.max_completion_length, job.grpo.num_generations
    rows = [Row((1 + i // group,) * prompt_tokens, (1,) * length) for i in range(count)]
    base = model.get_base_model()
    kept = _kept(base, rows)
    layers = base.config.get_text_config().num_hidden_layers
    # A layer's backward pass needs about as much again as the layer keeps. With checkpointing a layer keeps its input.
    if site.gradient_checkpointing:
        kept_of_a_layer = count * length * base.config.get_text_config().hidden_size * base.dtype.itemsize
        kept = layers * kept_of_a_layer + 2 * kept / layers
    else:
        kept += kept / layers
    vocabulary = base.config.get_text_config().vocab_size
    logits = min(count * length, max(1, LOGITS_AT_ONCE // vocabulary)) * vocabulary
    return kept + logits * ((4 if base.dtype == torch.float32 else 8) + 4 * job.grpo.needs_entropies)


def _kept(base: torch.nn.Module, rows: list[Row]) -> float:
    """What a forward pass over packed rows keeps for the backward pass."""
    packing = pack(rows, torch.device("meta"))
    parameters, kept = {id(p) for p in base.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in parameters and id(tensor._base) not in parameters:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        packed_forward(base.config, packing),
        _FusedAttention(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        base.base_model(
            input_ids=packing.token_ids,
            attention_mask=torch.ones_like(packing.token_ids),
            position_ids=packing.position_ids,
            use_cache=False,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention would keep all its weights, which no kernel of a real device does."""

    def __torch_function__(self, function, types, arguments=(), more=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            return _Attention.apply(*arguments[:3])
        return function(*arguments, **(more or {}))


class _Attention(torch.autograd.Function):
    """No backward pass is ever made."""

    @staticmethod
    def forward(ctx, query, key, value):
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output)
        return output
