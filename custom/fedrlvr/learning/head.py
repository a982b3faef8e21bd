"""Log-probabilities from hidden states, a few rows of logits at a time.

Logits of a whole batch are by far its largest tensor: rows x tokens x vocabulary, several times over. Here they exist
for a few tokens at once, in the forward pass alone: the head is frozen and every token's log-probability depends on its
own hidden state only, so the derivative is taken on the way and kept at the size of the hidden states.
"""

import copy

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from fedrlvr.algorithms.loss import token_logprobs

LOGITS_AT_ONCE = 2**24  # 64 MiB in float32


class Head:
    """What a causal language model does between its decoder's hidden states and its logits: projection, bias, scale,
    soft cap, or whatever its own `forward` says."""

    def __init__(self, model: PreTrainedModel):
        decoder = model.base_model_prefix
        self._model = copy.copy(model)  # the same weights, with hidden states in the decoder's place
        self._model._modules = model._modules | {decoder: _Given()}
        self.vocabulary = model.config.get_text_config().vocab_size
        own = (module for name, module in model.named_children() if name != decoder)
        self.frozen = not any(parameter.requires_grad for module in own for parameter in module.parameters())

    def logits(self, hidden_MD: torch.Tensor) -> torch.Tensor:
        return self._model(inputs_embeds=hidden_MD.unsqueeze(0), use_cache=False).logits[0]

    def logprobs(self, hidden_MD: torch.Tensor, token_ids_M: torch.Tensor, temperature: float) -> torch.Tensor:
        """log softmax(logits / temperature) at the given tokens, float32, shape M. In chunks, unless weights of the
        head train: their derivative is not taken on the way."""
        wanted = torch.is_grad_enabled() and (hidden_MD.requires_grad or not self.frozen)
        if wanted and not self.frozen:
            return token_logprobs(self.logits(hidden_MD), token_ids_M, temperature)
        return _InChunks.apply(hidden_MD, token_ids_M, self, temperature, wanted)


class _Given(torch.nn.Module):
    """A decoder whose hidden states are those that it is given."""

    def forward(self, input_ids=None, *_, inputs_embeds: torch.Tensor, **__) -> MoeModelOutputWithPast:
        return MoeModelOutputWithPast(last_hidden_state=inputs_embeds)


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_MD, token_ids_M, head: Head, temperature: float, wanted: bool):
        values, derivatives = [], []
        rows = max(1, LOGITS_AT_ONCE // head.vocabulary)
        for start in range(0, len(hidden_MD), rows):
            hidden = hidden_MD[start : start + rows].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = head.logits(hidden)
            logprobs = torch.log_softmax(logits.detach().float() / temperature, -1)
            tokens = token_ids_M[start : start + rows].unsqueeze(-1)
            values.append(logprobs.gather(-1, tokens).squeeze(-1))
            if wanted:
                # d log p(token) / d logits = (1 at the token - p) / temperature; here with the other sign
                probabilities = logprobs.exp_().scatter_add_(-1, tokens, torch.full_like(tokens, -1, dtype=torch.float))
                (slope,) = torch.autograd.grad(logits, hidden, probabilities.to(logits.dtype))
                derivatives.append(slope / -temperature)
        if wanted:
            ctx.save_for_backward(torch.cat(derivatives))
        return torch.cat(values)

    @staticmethod
    def backward(ctx, gradient):
        (derivative,) = ctx.saved_tensors
        return derivative * gradient.unsqueeze(-1).to(derivative.dtype), None, None, None, None
