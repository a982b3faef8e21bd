"""Which way rows are scored, decided once by what the model computes, and said in the log."""

import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaForCausalLM

from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.model import Policy
from fedrlvr.learning.packed_attention import packed_layers
from fedrlvr.learning.scorer import Scorer
from fedrlvr.tiny.small_tokenizers import character_tokenizer

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
WAYS = {  # architecture -> its own settings, the way, what the log says
    "llama": ({}, "packed", "training: rows are packed"),
    "olmo3": (WINDOW, "packed", "training: rows are packed"),
    "qwen3_moe": (
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        "packed",
        "training: rows are packed",
    ),
    # a window, sinks, and attention code of its own
    "gpt_oss": (WINDOW | {"num_local_experts": 2, "num_experts_per_tok": 1}, "packed", "training: rows are packed"),
    # a layer that hands its state from token to token
    "qwen3_5_text": (LINEAR, "padded", "training: rows cannot be packed with this model (log-probabilities differ by"),
    # its positions are in its attention masks
    "bloom": ({"n_head": 2}, "padded", "training: rows cannot be packed with this model (TypeError"),
}
ROWS = [Row((3, 4, 5, 6, 7, 8, 9), (10, 11, 12, 13)), Row((3, 4, 5, 6, 7, 8, 9), (14,)), Row((5,), (6, 7, 8, 9, 1))]


def policy(model) -> Policy:
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=False).eval()
    return Policy(adapted, character_tokenizer("abcdefghijklmnopqrstuvwxyz0123456789"), (1,))


def made(architecture: str, kind=AutoModelForCausalLM, **more):
    config = CONFIG_MAPPING[architecture](**SIZES | more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.from_config(config) if kind is AutoModelForCausalLM else kind(config)
        for parameter in model.parameters():  # attention and logits of a trained model's size
            if parameter.dim() > 1:
                parameter.data.mul_(10)
    return model.eval()


def said_in(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("fedrlvr")]


@pytest.mark.parametrize("architecture", WAYS)
def test_a_way_is_taken_if_it_computes_what_the_model_computes_and_the_log_says_which(architecture, caplog):
    more, way, said = WAYS[architecture]
    with caplog.at_level(logging.INFO, "fedrlvr"):
        scorer = Scorer(policy(made(architecture, **more)), temperature=0.9)
        lines = said_in(caplog)
        batch = collate(ROWS, 0, torch.device("cpu"))
        found = scorer(batch)
        assert said_in(caplog) == lines  # once, at the start
    assert lines[0].startswith(said)
    assert scorer._way == getattr(scorer, f"_{way}")
    assert scorer.packs is (way == "packed")
    torch.testing.assert_close(found, scorer._plain(batch), atol=1e-4, rtol=1e-4)
    assert found[1].tolist()[1:] == [0.0] * 4  # where there is no token


@pytest.mark.parametrize("architecture", ["llama", "olmo3", "gpt_oss", "bloom"])
def test_all_ways_have_the_same_entropies_and_gradients(architecture):
    scorer = Scorer(policy(made(architecture, **WAYS[architecture][0])), temperature=0.9)
    batch, found = collate(ROWS, 0, torch.device("cpu")), []
    factors = torch.randn(2, *batch.mask.shape, generator=torch.Generator().manual_seed(0))
    trained = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
    for way in [scorer._plain, scorer._padded, *([scorer._packed] if scorer.packs else [])]:
        values = way(batch, entropies=True)
        found.append([values.detach(), *torch.autograd.grad((values * factors).sum(), trained, allow_unused=True)])
        assert not bool(values[:, ~batch.mask].any())
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)
    assert 0.1 < float(found[0][0][1][batch.mask].mean()) < 3.7  # log of 40 tokens
    assert max(float(gradient.abs().max()) for gradient in found[0][1:] if gradient is not None) > 1e-2


class Shifting(LlamaForCausalLM):
    """Its logits are not a function of hidden states alone."""

    def forward(self, input_ids=None, **more):
        output = super().forward(input_ids=input_ids, **more)
        if input_ids is not None:
            output.logits = output.logits + torch.arange(output.logits.shape[-1]) * 0.1
        return output


def test_a_model_whose_logits_are_more_than_a_head_of_its_hidden_states_scores_by_its_own_forward_pass(caplog):
    with caplog.at_level(logging.INFO, "fedrlvr"):
        scorer = Scorer(policy(made("llama", Shifting)), temperature=1.0)
    assert [line.split(" (")[0] for line in said_in(caplog)] == [
        "training: rows cannot be packed with this model",
        "training: rows cannot be padded with this model",
        "training: the logits of a whole micro-batch are in memory at once",
    ]
    batch = collate(ROWS, 0, torch.device("cpu"))
    logits = scorer.model(input_ids=batch.input_ids[:1], logits_to_keep=6).logits[0, :4]  # the longest row, unpadded
    expected = torch.log_softmax(logits, -1).gather(-1, batch.completion_ids[0, :4, None]).squeeze(-1)
    torch.testing.assert_close(scorer(batch)[0, :4], expected, atol=1e-5, rtol=1e-5)


def test_an_attention_that_was_asked_for_by_name_is_not_replaced():
    model = made("llama")
    model.config._attn_implementation = "flash_attention_2"
    said = "attn_implementation is flash_attention_2, and packed rows need one of sdpa, eager"
    with pytest.raises(ValueError, match=said), packed_layers(model.config):
        pass


def test_the_model_has_its_own_attention_back_after_scoring_and_after_recomputing():
    subject = policy(made("llama"))
    scorer, config = Scorer(subject, temperature=1.0), subject.model.config
    scorer(collate(ROWS, 0, torch.device("cpu")))
    assert config._attn_implementation == "sdpa"
    with scorer.recomputing():
        assert config._attn_implementation == "packed_sdpa"
    assert config._attn_implementation == "sdpa"


def test_a_head_with_lora_factors_trains_as_in_the_plain_way():
    model = made("llama")
    lora = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=False).eval()
    scorer = Scorer(Policy(adapted, character_tokenizer("abc"), (1,)), temperature=1.0)
    assert scorer.packs
    assert not scorer.head.frozen
    batch, gradients = collate(ROWS, 0, torch.device("cpu")), []
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    for way in (scorer, scorer._plain):
        gradients.append(torch.autograd.grad(way(batch).sum(), trained))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
