"""Log-probabilities and entropies from hidden states, a few rows of logits at a time.

Logits of a whole batch are by far its largest tensor: rows x tokens x vocabulary, several times over. Here they exist
for a few tokens at once, in the forward pass alone: the head is frozen and every token's log-probability depends on its
own hidden state only, so the derivative is taken on the way and kept at the size of the hidden states.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from fedrlvr.algorithms.entropy import token_entropies
from fedrlvr.algorithms.loss import token_logprobs
from fedrlvr.learning.partitioned import whole

LOGITS_AT_ONCE = 2**25  # 128 MiB in float32


class Head:
    """What a causal language model does between its decoder's hidden states and its logits: projection, bias, scale,
    soft cap, or whatever its own `forward` says."""

    def __init__(self, model: PreTrainedModel):
        decoder = {model.base_model_prefix: _given(model.base_model)}
        own = {name: part and _copied(part) for name, part in model._modules.items() if name not in decoder}
        self._model = _without_hooks(model, own | decoder)
        self.vocabulary = model.config.get_text_config().vocab_size
        self._parameters = list(self._model.parameters())
        self.frozen = not any(parameter.requires_grad for parameter in self._parameters)
        layer = model.get_output_embeddings()
        self._layer = layer and _copied(layer)

    def logits(self, hidden_MD: torch.Tensor) -> torch.Tensor:
        return self._model(inputs_embeds=hidden_MD.unsqueeze(0), use_cache=False).logits[0]

    def logprobs(
        self, hidden_MD: torch.Tensor, token_ids_M: torch.Tensor, temperature: float, entropies: bool = False
    ) -> torch.Tensor:
        """log softmax(logits / temperature) at the given tokens, float32, shape M; with `entropies`, 2M: these, and the
        entropies of the tokens' distributions. In chunks, unless weights of the head train: their derivative is not
        taken on the way."""
        wanted = torch.is_grad_enabled() and (hidden_MD.requires_grad or not self.frozen)
        if wanted and not self.frozen:
            return from_logits(self.logits(hidden_MD), token_ids_M, temperature, entropies)
        with whole(self._parameters):
            return _InChunks.apply(hidden_MD, token_ids_M, self, temperature, wanted, entropies)

    def write_logits(self, hidden_MD: torch.Tensor, place_MV: torch.Tensor) -> Callable[..., torch.Tensor]:
        """Write the logits into `place_MV`. Returns what maps a gradient of the logits to one of the hidden states,
        where these require one; all its calls but the last are told that there is another one."""
        if self._weight is not None:
            torch.mm(hidden_MD.detach(), self._weight.T, out=place_MV)
            return lambda gradient, another=False: gradient @ self._weight
        with torch.set_grad_enabled(hidden_MD.requires_grad):
            logits = self.logits(hidden_MD)
        place_MV.copy_(logits.detach())
        return lambda gradient, another=False: torch.autograd.grad(
            logits, hidden_MD, gradient.to(logits.dtype), retain_graph=another
        )[0]

    @cached_property
    @torch.no_grad()
    def _weight(self) -> torch.Tensor | None:
        """The weight of the projection, if there is nothing else: then logits need no memory but their place."""
        layer = self._layer
        if not self.frozen or type(layer) is not torch.nn.Linear or layer.weight.dtype != torch.float32:
            return None
        some = torch.linspace(-100, 100, layer.in_features, device=layer.weight.device).unsqueeze(0)
        return layer.weight if torch.allclose(self.logits(some), some @ layer.weight.T, rtol=1e-5) else None


def from_logits(
    logits_NTV: torch.Tensor, token_ids_NT: torch.Tensor, temperature: float, entropies: bool
) -> torch.Tensor:
    """As `Head.logprobs`, from logits that are there: shape NT, or 2NT."""
    logprobs = token_logprobs(logits_NTV, token_ids_NT, temperature)
    return torch.stack([logprobs, token_entropies(logits_NTV, temperature)]) if entropies else logprobs


def _without_hooks(module: torch.nn.Module, modules: dict[str, torch.nn.Module | None]) -> torch.nn.Module:
    """A copy with the same parameters and these modules. Hooks on the module are not the copy's: those of ZeRO stage 3
    would gather weights and let them go for every chunk."""
    copied = copy.copy(module)
    copied._forward_hooks, copied._forward_pre_hooks, copied._modules = OrderedDict(), OrderedDict(), modules
    return copied


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    return _without_hooks(module, {name: part and _copied(part) for name, part in module._modules.items()})


def _given(decoder: torch.nn.Module) -> torch.nn.Module:
    """The decoder, whose factors a head may read, with hidden states that are those that it is given."""
    given = _without_hooks(decoder, {})
    given.forward = lambda *_, inputs_embeds, **__: MoeModelOutputWithPast(last_hidden_state=inputs_embeds)
    return given


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_MD, token_ids_M, head: Head, temperature: float, wanted: bool, entropies: bool):
        rows = min(len(hidden_MD), max(1, LOGITS_AT_ONCE // head.vocabulary))
        kinds, shape = 1 + entropies, (2,) if entropies else ()
        values = hidden_MD.new_empty((*shape, len(hidden_MD)), dtype=torch.float32)
        derivative = hidden_MD.new_empty((*shape, *hidden_MD.shape)) if wanted else None
        # One place for all chunks, and every sum in it: new memory of that size costs more than the sums.
        place = hidden_MD.new_empty((kinds, rows, head.vocabulary), dtype=torch.float32)
        for start in range(0, len(hidden_MD), rows):
            part = slice(start, start + rows)
            hidden, tokens = hidden_MD[part].detach().requires_grad_(wanted), token_ids_M[part].unsqueeze(-1)
            here = place[0, : len(hidden)]
            back = head.write_logits(hidden, here)
            if temperature != 1.0:
                here.div_(temperature)
            most = here.amax(-1, keepdim=True)
            chosen = here.gather(-1, tokens) - most
            total = here.sub_(most).exp_().sum(-1, keepdim=True)
            values.view(kinds, -1)[0, part] = (chosen - total.log()).squeeze(-1)
            if wanted or entropies:
                here.div_(total)
            if entropies:
                terms = torch.special.entr(here, out=place[1, : len(hidden)])
                entropy = terms.sum(-1, keepdim=True)
                values[1, part] = entropy.squeeze(-1)
                if wanted:
                    # d entropy / d logits = -p (log p + entropy) / temperature
                    slope = terms.addcmul_(here, entropy, value=-1)
                    derivative[1, part] = back(slope, another=True) / temperature
            if wanted:
                # d log p(token) / d logits = (1 at the token - p) / temperature; here with the other sign
                slope = here.scatter_add_(-1, tokens, here.new_full(tokens.shape, -1.0))
                derivative.view(kinds, *hidden_MD.shape)[0, part] = back(slope) / -temperature
        if wanted:
            ctx.save_for_backward(derivative)
        return values

    @staticmethod
    def backward(ctx, gradient):
        (derivative,) = ctx.saved_tensors
        scaled = derivative * gradient.unsqueeze(-1).to(derivative.dtype)
        return scaled.sum(0) if scaled.dim() == 3 else scaled, None, None, None, None, None
