"""Log-probabilities and entropies of completions: the fast way where an architecture allows it, else the plain way."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from fedrlvr.data.tokenizer import brief
from fedrlvr.learning.batch import Batch, Row, collate
from fedrlvr.learning.fused_lora import fuse
from fedrlvr.learning.head import Head, from_logits
from fedrlvr.learning.model import Policy
from fedrlvr.learning.packed_attention import packed_forward, packed_layers
from fedrlvr.learning.packing import pack

LOGGER = logging.getLogger(__name__)
# What the ways may differ by: the mean difference of log-probabilities, as a share of their mean size.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
TRIAL = ((5, 4), (5, 1), (9, 3), (5, 2))  # tokens of prompt and completion; prompts of one length are the same


class Scorer(torch.nn.Module):
    """The policy as a module that maps a batch to log-probabilities: what DeepSpeed wraps.

    LoRA's layers are fused, unless their weights are to be partitioned. There are three ways: rows packed without
    padding; padded rows; and padded rows with the logits of the whole batch, which is the model's own forward pass. At
    the start all of them score a few short rows. The first that agrees with the last is taken, and said in the log.
    """

    def __init__(self, policy: Policy, temperature: float, partitioned: bool = False):
        super().__init__()
        self.model, self.temperature = policy.model, temperature
        if not partitioned:
            fuse(self.model)
        self.head = Head(self.base)
        self._way = self._choose(policy)

    @property
    def base(self) -> PreTrainedModel:
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def packs(self) -> bool:
        return self._way == self._packed

    def forward(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        """log pi(token) / temperature of every completion token, float32, shape NT; 0 where a row has ended. With
        `entropies`, shape 2NT: these, and the entropies of the tokens' distributions."""
        return self._way(batch, entropies)

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """For a block with a backward pass that computes layers again."""
        if not self.packs:
            yield
            return
        with packed_layers(self.base.config):
            yield

    def _packed(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        packing = pack(batch.rows, batch.input_ids.device)
        with packed_forward(self.base.config, packing):
            hidden = self._hidden(
                input_ids=packing.token_ids,
                attention_mask=torch.ones_like(packing.token_ids),
                position_ids=packing.position_ids,
            )
        return self._scored(hidden[0, packing.predicting], batch, entropies)

    def _padded(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        width = batch.completion_ids.shape[1]
        return self._scored(self._hidden(**batch.inputs)[:, -width - 1 : -1][batch.mask], batch, entropies)

    def _plain(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        width = batch.completion_ids.shape[1]
        logits = self.model(**batch.inputs, logits_to_keep=width + 1, use_cache=False).logits
        values = from_logits(logits[:, :-1], batch.completion_ids, self.temperature, entropies)
        return values.masked_fill(~batch.mask, 0.0)

    def _hidden(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.base.base_model(**inputs, use_cache=False).last_hidden_state

    def _scored(self, hidden_MD: torch.Tensor, batch: Batch, entropies: bool) -> torch.Tensor:
        """`hidden_MD` are those before each completion token, row by row."""
        values = self.head.logprobs(hidden_MD, batch.completion_ids[batch.mask], self.temperature, entropies)
        return values.new_zeros((*values.shape[:-1], *batch.mask.shape)).masked_scatter(batch.mask, values)

    @torch.no_grad()
    def _choose(self, policy: Policy) -> Callable[..., torch.Tensor]:
        batch = _trial(policy)
        expected = self._plain(batch)
        allowed = TOLERANCE[policy.model.dtype] * float(expected.abs().mean())
        for way, said in ((self._packed, "packed"), (self._padded, "padded")):
            try:
                difference = float((way(batch) - expected).abs().mean())
                reason = "" if difference <= allowed else f"log-probabilities differ by {difference:.2g}"
            except Exception as error:  # whatever an architecture does not support
                reason = f"{type(error).__name__}: {brief(error)}"
            if not reason:
                LOGGER.info("training: rows are %s", said)
                return way
            LOGGER.info("training: rows cannot be %s with this model (%s)", said, reason)
        LOGGER.info("training: the logits of a whole micro-batch are in memory at once")
        return self._plain


def _trial(policy: Policy) -> Batch:
    """A few rows of tokens that mean nothing."""
    some = policy.meaningless
    rows = [Row(some(prompt, prompt), some(i, count)) for i, (prompt, count) in enumerate(TRIAL)]
    return collate(rows, policy.pad_id, policy.model.device)
