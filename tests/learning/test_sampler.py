"""The sampling loop against transformers' own `generate`, and what must not change its samples."""

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import load_policy
from fedrlvr.learning.sampler import CachedSampler, _draw
from fedrlvr.site_config import LocalModel

PROMPTS = ["A3725?", "B12?", "D0987?", "C5?"]  # of different lengths, so that padding matters


@pytest.fixture(scope="module")
def policy(model_path):
    policy = load_policy(LocalModel(model_path=model_path), LoraSettings(), PromptSettings(), torch.device("cpu"))
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)  # an adapter that changes something
    return policy


def sample(policy, batch_size=1024, temperature=1.0, group=6, length=20, seed=0):
    uniforms = torch.rand(len(PROMPTS) * group, length, generator=torch.Generator().manual_seed(seed))
    return CachedSampler(policy, batch_size).sample([policy.encode(p) for p in PROMPTS], temperature, uniforms)


class Forced(LogitsProcessor):
    """Makes `generate` follow given tokens, and keeps the scores it computed on the way."""

    def __init__(self, rows, prompt_width):
        self.rows, self.prompt_width, self.scores = rows, prompt_width, []

    def __call__(self, input_ids, scores):
        step = input_ids.shape[1] - self.prompt_width
        self.scores.append(scores.clone())
        forced = torch.full_like(scores, float("-inf"))
        for i, row in enumerate(self.rows):
            forced[i, row[min(step, len(row) - 1)]] = 0.0
        return forced


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_generate_with_prompts_of_different_lengths(policy, temperature):
    groups = sample(policy, temperature=temperature)
    rows = [s for group in groups for s in group]
    prompts = [p for p, group in zip(PROMPTS, groups, strict=True) for _ in group]
    inputs = policy.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    forced = Forced([row.token_ids for row in rows], inputs.input_ids.shape[1])
    length = max(len(row.token_ids) for row in rows)
    policy.model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        logits_processor=LogitsProcessorList([forced]),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=None,
    )
    for i, row in enumerate(rows):
        for t, (token, logprob) in enumerate(zip(row.token_ids, row.logprobs, strict=True)):
            expected = torch.log_softmax(forced.scores[t][i] / temperature, -1)[token]
            assert logprob == pytest.approx(float(expected), abs=2e-5)


def test_batch_size_does_not_change_what_is_sampled(policy):
    whole, small = sample(policy), sample(policy, batch_size=6)
    assert [[s.token_ids for s in g] for g in whole] == [[s.token_ids for s in g] for g in small]


def test_a_prompt_is_sampled_the_same_alone_and_among_others(policy):
    group, length = 6, 20
    uniforms = torch.rand(len(PROMPTS) * group, length, generator=torch.Generator().manual_seed(0))
    alone = CachedSampler(policy, 64).sample([policy.encode(PROMPTS[1])], 1.0, uniforms[group : 2 * group])
    assert [s.token_ids for s in alone[0]] == [s.token_ids for s in sample(policy)[1]]


def test_a_completion_ends_at_the_end_token_or_is_truncated(policy):
    ended = [s for group in sample(policy) for s in group]
    assert any(not s.truncated for s in ended)
    for s in ended:
        assert s.truncated == (s.token_ids[-1] not in policy.eos_ids)
        assert not set(s.token_ids[:-1]) & set(policy.eos_ids)
        assert len(s.logprobs) == len(s.token_ids)
    assert all(s.truncated and len(s.token_ids) == 3 for group in sample(policy, length=3) for s in group)


def test_draw_inverts_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(5, 1)
    token, logprob, entropy = _draw(logits, 1.0, torch.tensor([0.0, 0.199, 0.201, 0.699, 0.999]))
    assert token.tolist() == [0, 0, 1, 1, 2]
    assert logprob.exp().tolist() == pytest.approx([0.2, 0.2, 0.5, 0.5, 0.3])
    assert entropy[0] == pytest.approx(-(0.2 * -1.6094 + 0.5 * -0.6931 + 0.3 * -1.2040), abs=1e-3)


def test_a_token_of_probability_zero_is_never_drawn():
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0]]).repeat(3, 1)
    token, _, entropy = _draw(logits, 1.0, torch.tensor([0.0, 0.5, 1.0 - 1e-7]))
    assert set(token.tolist()) <= {1, 3}
    assert torch.isfinite(entropy).all()
