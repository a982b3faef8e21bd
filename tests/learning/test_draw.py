"""Drawing inverts the cumulative distribution, whether the vocabulary is searched at once or in blocks."""

import math

import pytest
import torch

from fedrlvr.learning.draw import BLOCK, draw

LAST = 1 - 2**-24  # the largest float32 below 1


def drawn(probabilities, uniforms, temperature: float = 1.0):
    """For one distribution and several u."""
    logits = torch.log(torch.tensor([probabilities])) * temperature
    return draw(logits.expand(len(uniforms), -1), temperature, torch.tensor(uniforms))


def large(places: dict[int, float], vocabulary: int = 50 * BLOCK + 7) -> list[float]:
    return [places.get(i, 0.0) for i in range(vocabulary)]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_first_token_whose_cumulative_probability_exceeds_u(temperature):
    uniforms = [0.0, 0.1999, 0.2001, 0.6999, 0.7001, 0.9999]
    token, logprob, entropy = drawn([0.2, 0.5, 0.3], uniforms, temperature)
    assert token.tolist() == [0, 0, 1, 1, 2, 2]
    assert logprob.exp().tolist() == pytest.approx([0.2, 0.2, 0.5, 0.5, 0.3, 0.3])
    # 0.2 ln 5 + 0.5 ln 2 + 0.3 ln (10/3) = 0.3219 + 0.3466 + 0.3612
    assert entropy.tolist() == pytest.approx([1.0297] * 6, abs=1e-4)


def test_exactly_at_the_border_of_two_tokens_it_is_the_second():
    assert drawn([0.25, 0.25, 0.5], [0.25, 0.5])[0].tolist() == [1, 2]
    places = large({0: 0.25, BLOCK - 1: 0.25, BLOCK: 0.25, 50 * BLOCK + 6: 0.25})
    uniforms = [0.0, 0.2499, 0.25, 0.4999, 0.5, 0.7499, 0.75, LAST]
    expected = [0, 0, BLOCK - 1, BLOCK - 1, BLOCK, BLOCK, 50 * BLOCK + 6, 50 * BLOCK + 6]
    token, logprob, entropy = drawn(places, uniforms)
    assert token.tolist() == expected
    assert logprob.tolist() == pytest.approx([math.log(0.25)] * 8)
    assert entropy.tolist() == pytest.approx([math.log(4)] * 8)


@pytest.mark.parametrize("vocabulary", [6, BLOCK, 20 * BLOCK, 20 * BLOCK + 5])
def test_a_token_of_probability_zero_is_never_drawn(vocabulary):
    """Also not the first or the last one, and at u = 0 or just below 1."""
    logits = torch.full((1, vocabulary), -math.inf)
    logits[0, [1, 4]] = torch.tensor([0.0, 1.0])
    uniforms = torch.tensor([0.0, 1e-30, 0.2, 0.3, LAST])
    token, logprob, entropy = draw(logits.expand(5, -1), 1.0, uniforms)
    assert token.tolist() == [1, 1, 1, 4, 4]  # 1 / (1 + e) = 0.2689
    assert logprob.tolist() == pytest.approx([-1.3133] * 3 + [-0.3133] * 2, abs=1e-4)
    assert torch.isfinite(entropy).all()


def test_a_certain_token_has_entropy_zero():
    token, logprob, entropy = drawn(large({777: 1.0}), [0.0, 0.5, LAST])
    assert (token.tolist(), logprob.tolist(), entropy.tolist()) == ([777] * 3, [0.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("vocabulary", [30, 1000, 5003, 151_936])
def test_the_vocabularys_size_changes_only_how_it_is_searched(vocabulary):
    """Against the definition in float64. Rounding may move a token whose border is within 1e-6 of u."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(40, vocabulary, generator=random) * 3
    uniforms = torch.rand(40, generator=random)
    token, logprob, entropy = draw(logits, 0.8, uniforms)
    logprobs = torch.log_softmax(logits.double() / 0.8, -1)
    cumulative = logprobs.exp().cumsum(-1)
    upper = cumulative.gather(-1, token[:, None]).squeeze(-1)
    lower = upper - logprobs.gather(-1, token[:, None]).squeeze(-1).exp()
    assert (lower - 1e-6 <= uniforms).all()
    assert (uniforms < upper + 1e-6).all()
    torch.testing.assert_close(logprob.double(), logprobs.gather(-1, token[:, None]).squeeze(-1), atol=2e-5, rtol=0)
    torch.testing.assert_close(entropy.double(), -(logprobs.exp() * logprobs).sum(-1), atol=1e-4, rtol=0)


def test_half_precision_logits_are_drawn_from_in_float32():
    logits = torch.randn(4, 600, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniforms = torch.tensor([0.1, 0.4, 0.7, 0.9])
    for half, full in zip(draw(logits, 1.0, uniforms), draw(logits.float(), 1.0, uniforms), strict=True):
        assert torch.equal(half, full)


@pytest.mark.parametrize("vocabulary", [10, 3000])
def test_a_row_of_not_a_number_harms_no_other(vocabulary):
    """A diverged model is told by its log-probabilities; the token is one of the vocabulary."""
    logits = torch.zeros(2, vocabulary)
    logits[0] = math.nan
    token, logprob, _ = draw(logits, 1.0, torch.tensor([0.5, 0.0]))
    assert 0 <= token[0] < vocabulary
    assert token[1] == 0
    assert logprob.isnan().tolist() == [True, False]


def test_at_temperature_0_it_is_the_likeliest_token_whatever_u_is():
    logits = torch.tensor([[0.1, 2.0, 1.999], [5.0, -1.0, 5.0]])
    for u in (0.0, 0.5, LAST):
        token, logprob, entropy = draw(logits, 0.0, torch.full((2,), u))
        assert (token.tolist(), logprob.tolist(), entropy.tolist()) == ([1, 0], [0.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, [2]), (0.45, [2, 3]), (0.8, [1, 2, 3])])
def test_top_p_leaves_the_likeliest_tokens_that_reach_it(top_p, kept):
    probabilities = [0.1, 0.2, 0.4, 0.3]
    uniforms = torch.linspace(0, LAST, 200)
    logits = torch.log(torch.tensor([probabilities])) * 0.7
    token, logprob, _ = draw(logits.expand(200, -1), 0.7, uniforms, top_p)
    assert sorted(set(token.tolist())) == kept
    total = sum(probabilities[i] for i in kept)
    assert logprob.exp().tolist() == pytest.approx([probabilities[i] / total for i in token.tolist()])
