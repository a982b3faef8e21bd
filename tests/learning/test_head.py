"""Log-probabilities and entropies in chunks: the model's own, with derivatives, and no logits of the whole batch."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from fedrlvr.learning import head as head_module
from fedrlvr.learning.head import Head, from_logits

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
# What each does after its projection: nothing, a bias, a soft cap, a factor, a divisor, and a router's output.
FAMILIES = {
    "llama": {},
    "phi": {},
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"logit_scale": 3.0},
    "granite": {"logits_scaling": 0.2},
    "qwen3_moe": {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32},
}


@pytest.fixture(params=list(FAMILIES))
def model(request):
    config = CONFIG_MAPPING[request.param](**SIZES | FAMILIES[request.param])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(config).eval()
        for parameter in made.get_output_embeddings().parameters():  # logits of several units, a bias that counts
            torch.nn.init.normal_(parameter)
    return made.requires_grad_(False)


def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(7, 32, generator=generator)
    return hidden, torch.randint(50, (7,), generator=generator), torch.randn(7, generator=generator)


def through_the_model(model, hidden: torch.Tensor) -> torch.Tensor:
    """The logits that the model itself makes of these hidden states."""
    decoder = model.base_model
    hook = decoder.register_forward_hook(lambda module, given, output: replaced(output, hidden))
    try:
        return model(input_ids=torch.zeros(1, len(hidden), dtype=torch.long)).logits[0]
    finally:
        hook.remove()


def replaced(output, hidden: torch.Tensor):
    output.last_hidden_state = hidden.unsqueeze(0)
    return output


@pytest.mark.parametrize("entropies", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("at_once", [1, 150, 2**24])  # one token, three tokens, all seven
def test_values_and_derivatives_are_the_models_own(model, monkeypatch, temperature, at_once, entropies):
    monkeypatch.setattr(head_module, "LOGITS_AT_ONCE", at_once)
    hidden, tokens, factors = states()
    if entropies:  # each value has its own factor
        factors = torch.stack([factors, factors.flip(0)])
    results = []
    for chunked in (True, False):
        own = hidden.clone().requires_grad_()
        if chunked:
            values = Head(model).logprobs(own, tokens, temperature, entropies)
        else:
            values = from_logits(through_the_model(model, own), tokens, temperature, entropies)
        (values * factors).sum().backward()
        results.append((values.detach(), own.grad))
    (values, derivative), (expected, plain) = results
    assert values.dtype == torch.float32
    assert values.shape == factors.shape
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(derivative, plain, atol=1e-5, rtol=1e-5)
    assert float(plain.abs().max()) > 0.1


def test_no_more_logits_are_made_at_once_than_the_limit(model, monkeypatch):
    monkeypatch.setattr(head_module, "LOGITS_AT_ONCE", 150)
    head, made = Head(model), []
    real = head.write_logits
    head.write_logits = lambda hidden, place: made.append(place.shape) or real(hidden, place)
    hidden, tokens, _ = states()
    values = head.logprobs(hidden.requires_grad_(), tokens, 1.0)
    kept = values.grad_fn.saved_tensors
    assert made == [(3, 50), (3, 50), (1, 50)]
    assert [tensor.shape for tensor in kept] == [hidden.shape]
    with torch.no_grad():
        torch.testing.assert_close(head.logprobs(hidden, tokens, 1.0), values)


def test_entropies_take_their_place_and_keep_their_derivative_only_where_they_are_asked_for(model, monkeypatch):
    monkeypatch.setattr(head_module, "LOGITS_AT_ONCE", 150)
    head, (hidden, tokens, _), terms = Head(model), states(), []
    real = torch.special.entr
    monkeypatch.setattr(torch.special, "entr", lambda *given, **more: terms.append(1) or real(*given, **more))
    both = head.logprobs(hidden.requires_grad_(), tokens, 1.0, entropies=True)
    assert [tensor.shape for tensor in both.grad_fn.saved_tensors] == [(2, *hidden.shape)]
    with torch.no_grad():
        values = head.logprobs(hidden, tokens, 1.0, entropies=True)
        assert len(terms) == 6  # three chunks, twice
        torch.testing.assert_close(values, both)
        torch.testing.assert_close(head.logprobs(hidden, tokens, 1.0), values[0], atol=0, rtol=0)
    assert len(terms) == 6


def test_a_token_without_odds_has_no_part_in_an_entropy_and_harms_no_derivative():
    """Two logits are 1000 below the others: their probability is 0 in float32, and they are as good as not there."""
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING["llama"](**SIZES)).requires_grad_(False)
    weight = model.get_output_embeddings().weight
    hidden = torch.ones(1, 32, requires_grad=True)
    weight.zero_()
    weight[:48, 0], weight[48:, 0] = torch.arange(48) * 0.01, -1000.0
    entropy = Head(model).logprobs(hidden, torch.tensor([0]), 1.0, entropies=True)[1, 0]
    (slope,) = torch.autograd.grad(entropy, hidden)
    own = torch.ones(1, 32, requires_grad=True)
    kept = torch.softmax(own @ weight[:48].T, -1)
    expected = -(kept * kept.log()).sum()
    assert entropy.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(slope, *torch.autograd.grad(expected, own), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("entropies", [False, True])
def test_a_head_that_trains_gets_its_derivative(model, entropies):
    hidden, tokens, factors = states()
    weight = model.get_output_embeddings().weight.requires_grad_()
    (Head(model).logprobs(hidden, tokens, 1.0, entropies) * factors).sum().backward()
    found, weight.grad = weight.grad, None
    (from_logits(through_the_model(model, hidden), tokens, 1.0, entropies) * factors).sum().backward()
    torch.testing.assert_close(found, weight.grad, atol=1e-5, rtol=1e-5)
    assert float(found.abs().max()) > 0.1


def test_the_model_itself_keeps_its_decoder(model):
    decoder = model.base_model
    Head(model)
    assert model.base_model is decoder
