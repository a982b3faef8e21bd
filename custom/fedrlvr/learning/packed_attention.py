"""Attention over packed rows, as one of transformers' attention implementations.

A model asks for its masks by layer type (`AttentionMaskInterface`) and hands each to its layers' attention
(`AttentionInterface`). Here the mask of a layer type is made for every block of the packing: the model's own rule, be
it causal, in a window or in chunks, is asked about positions within a row. Attention gathers each block and calls the
implementation that the model was loaded with.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fedrlvr.learning.packing import Packing

INNER = ("sdpa", "eager")  # the implementations that packed attention can call
_packing: ContextVar[Packing] = ContextVar("packing")


@dataclass(frozen=True)
class BlockMasks:
    """What a layer gets in place of one mask: the packing, and the mask of each of its blocks, S x 1 x T x K."""

    packing: Packing
    masks: tuple[torch.Tensor, ...]


@contextmanager
def packed_layers(config: PreTrainedConfig) -> Iterator[None]:
    """Have the model's layers attend to packed rows during the block. A backward pass that computes layers again needs
    it, too. Raises ValueError where the model was loaded with an implementation that is not among INNER."""
    text, before = config.get_text_config(), config.get_text_config()._attn_implementation
    if before in INNER:
        text._attn_implementation = _name(before)
    elif before not in map(_name, INNER):
        raise ValueError(f"attn_implementation is {before}, and packed rows need one of {', '.join(INNER)}")
    try:
        yield
    finally:
        text._attn_implementation = before


@contextmanager
def packed_forward(config: PreTrainedConfig, packing: Packing) -> Iterator[None]:
    """As `packed_layers`; a forward pass in the block is over the tokens of `packing`."""
    token = _packing.set(packing)
    try:
        with packed_layers(config):
            yield
    finally:
        _packing.reset(token)


def _name(inner: str) -> str:
    return f"packed_{inner}"


def _block_masks(*, mask_function, dtype: torch.dtype, use_vmap: bool = False, inner: str, **_) -> BlockMasks:
    """Called by transformers. `mask_function` says whether a query may look at a key, given batch, head and the
    positions of both."""
    if use_vmap:
        raise ValueError("this architecture has a mask that does not depend on positions alone")
    packing, masks = _packing.get(), []
    zero = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=packing.token_ids.device)
    for block in packing.blocks:
        queries, keys = block.query_positions[:, None, :, None], block.key_positions[:, None, None, :]
        allowed = mask_function(zero, zero, queries, keys) & block.real_keys[:, None, None, :]
        allowed = allowed | ~block.real_queries[:, None, :, None]  # a query that sees nothing would make NaN
        if inner == "eager":  # which adds its mask
            allowed = torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
        masks.append(allowed)
    return BlockMasks(packing, tuple(masks))


def _attention(module, query, key, value, attention_mask: BlockMasks, *, inner: str, **more):
    """Called by the layers of a model, with tensors of 1 x heads x L x dimension. Returns 1 x L x heads x dimension."""
    attend = sdpa_attention_forward
    if inner == "eager":  # every architecture has its own
        attend = sys.modules[type(module).__module__].eager_attention_forward
    packing, masks = attention_mask.packing, attention_mask.masks
    queries = _by_block(query, packing.queries, [mask.shape[2] for mask in masks], masks)
    keys, values = (_by_block(t, packing.keys, [mask.shape[3] for mask in masks], masks) for t in (key, value))
    outputs = [attend(module, *parts, **more)[0] for parts in zip(queries, keys, values, masks, strict=True)]
    together = torch.cat([output.flatten(0, 1) for output in outputs])
    return together.index_select(0, packing.real).unsqueeze(0), None


def _by_block(tensor: torch.Tensor, places: torch.Tensor, widths: list[int], masks: tuple[torch.Tensor, ...]):
    """Of 1 x heads x L x dimension the tokens at `places`: for each block, S x heads x T or K x dimension."""
    taken = tensor[0].transpose(0, 1).index_select(0, places)
    sizes = [(len(mask), width) for mask, width in zip(masks, widths, strict=True)]
    parts = taken.split([count * width for count, width in sizes])
    return [part.unflatten(0, size).transpose(1, 2) for part, size in zip(parts, sizes, strict=True)]


for _inner in INNER:
    AttentionInterface.register(_name(_inner), partial(_attention, inner=_inner))
    AttentionMaskInterface.register(_name(_inner), partial(_block_masks, inner=_inner))
