"""Rows for training and scoring, and their tensors: prompts are padded on the left, completions on the right."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One completion with its prompt, ready for a training step. `old_logprobs` and `reference_logprobs` have one
    number per completion token, or are empty: not known, or not needed; so do `sender_logprobs` of a swapped one.
    `entropy_mask` says which tokens are among those of high entropy; empty: all."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    old_logprobs: tuple[float, ...] = ()
    reference_logprobs: tuple[float, ...] = ()
    sender_logprobs: tuple[float, ...] = ()
    advantage: float = 0.0
    swapped: bool = False
    entropy_mask: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Padded rows: `input_ids` and `attention_mask` N x (P + T), all others of tokens N x T. `mask` says which
    completion tokens there are, `entropy_mask` which of them are in the policy loss."""

    rows: tuple[Row, ...]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    completion_ids: torch.Tensor
    mask: torch.Tensor
    entropy_mask: torch.Tensor
    old_logprobs: torch.Tensor
    reference_logprobs: torch.Tensor
    sender_logprobs: torch.Tensor
    advantages: torch.Tensor
    swapped: torch.Tensor

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What a forward pass takes."""
        position_ids = (self.attention_mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": position_ids}


def collate(rows: Sequence[Row], pad_id: int, device: torch.device) -> Batch:
    prompt_width = max(len(row.prompt_ids) for row in rows)
    width = max(len(row.completion_ids) for row in rows)
    ids = torch.full((len(rows), prompt_width + width), pad_id)
    attention = torch.zeros_like(ids)
    high = torch.zeros((len(rows), width), dtype=torch.bool)
    old, reference, sender = torch.zeros((3, len(rows), width))
    for i, row in enumerate(rows):
        start, length = prompt_width - len(row.prompt_ids), len(row.completion_ids)
        ids[i, start : prompt_width + length] = torch.tensor(row.prompt_ids + row.completion_ids)
        attention[i, start : prompt_width + length] = 1
        high[i, :length] = torch.tensor(row.entropy_mask) if row.entropy_mask else True
        if row.old_logprobs:
            old[i, :length] = torch.tensor(row.old_logprobs)
        if row.reference_logprobs:
            reference[i, :length] = torch.tensor(row.reference_logprobs)
        if row.sender_logprobs:
            sender[i, :length] = torch.tensor(row.sender_logprobs)
    return Batch(
        rows=tuple(rows),
        input_ids=ids.to(device),
        attention_mask=attention.to(device),
        completion_ids=ids[:, prompt_width:].to(device),
        mask=attention[:, prompt_width:].bool().to(device),
        entropy_mask=high.to(device),
        old_logprobs=old.to(device),
        reference_logprobs=reference.to(device),
        sender_logprobs=sender.to(device),
        advantages=torch.tensor([row.advantage for row in rows]).to(device),
        swapped=torch.tensor([row.swapped for row in rows]).to(device),
    )


def micro_batches(rows: Sequence[Row], size: int) -> list[list[int]]:
    """The numbers of all rows in lists of at most `size`. Rows of one prompt are beside each other, as they can share
    it, short ones first."""
    prompts = {row.prompt_ids: number for number, row in reversed(list(enumerate(rows)))}
    order = sorted(range(len(rows)), key=lambda i: (prompts[rows[i].prompt_ids], len(rows[i].completion_ids)))
    return [order[start : start + size] for start in range(0, len(order), size)]
