"""A model's answer to one prompt, told as it is written."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, TextStreamer

from fedrlvr.learning.model import Policy
from fedrlvr.types import Prompt

Tell = Callable[[str], None]  # gets each part of an answer


class _Told(TextStreamer):
    """Hands on what the model writes, word by word."""

    def __init__(self, tokenizer, tell: Tell):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._tell(text)


@dataclass
class Chat:
    """Answers of a policy."""

    policy: Policy
    temperature: float  # 0: the likeliest token
    top_p: float
    max_tokens: int  # of an answer; less where the prompt leaves less of what the model reads
    seed: int | None = None  # None: other answers each time

    def __post_init__(self):
        policy, sample = self.policy, self.temperature > 0
        # Of everything else nothing holds, whatever the model's own settings say: training knows only of these.
        policy.model.generation_config = GenerationConfig(
            do_sample=sample,
            **({"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if sample else {}),
            eos_token_id=list(policy.eos_ids),
            pad_token_id=policy.pad_id,
        )

    def answer(self, prompt: Prompt, tell: Tell, with_adapter: bool = True) -> str:
        """The answer, whose parts `tell` gets meanwhile. Raises ValueError for a prompt that the model cannot read, or
        that leaves no room for an answer."""
        policy = self.policy
        ids = torch.tensor([policy.encode_prompt(prompt)], device=policy.model.device)
        room = self._room(ids.shape[1])
        if self.seed is not None:
            torch.manual_seed(self.seed)
        told = _Told(policy.tokenizer, tell)
        with torch.no_grad(), nullcontext() if with_adapter else policy.model.disable_adapter():
            made = policy.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, streamer=told
            )
        return policy.decode(made[0, ids.shape[1] :].tolist())

    def _room(self, asked: int) -> int:
        """Tokens for the answer to a prompt of so many tokens."""
        reads = self.policy.max_length
        if reads is not None and asked >= reads:
            raise ValueError(f"prompt: {asked} tokens, but the model reads {reads}, its answer among them; shorten it")
        return self.max_tokens if reads is None else min(self.max_tokens, reads - asked)
