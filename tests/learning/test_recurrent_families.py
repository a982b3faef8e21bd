"""Architectures whose layers keep states instead of, or beside, keys and values: a row's tokens do not depend on the
padding before it or on the rows beside it, and sampling, scoring and training see the same policy."""

import string

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from fedrlvr.config import OptimizerSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.cache import RECURRENT
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.model import Policy
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.tiny.small_tokenizers import character_tokenizer

VOCABULARY, ENDS, TEMPERATURE = 64, (2, 3, 4), 0.9
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DELTA = {
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 16,
}
CONVOLUTION = {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3}
MAMBA = {"mamba_n_heads": 12, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
OLD_MAMBA = {"mamba_d_state": 8, "use_mamba_kernels": False}
ZAMBA = {"layers_block_type": ["mamba", "hybrid"] * 2, "n_mamba_heads": 4, "attention_head_dim": 24} | OLD_MAMBA
ZAMBA |= {"attention_hidden_size": 96}
SMALL = {
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "falcon_h1": MAMBA | {"mamba_n_heads": 4, "mamba_d_ssm": 32},
    "granitemoehybrid": MAMBA
    | {"layer_types": ["mamba", "attention"] * 2, "num_local_experts": 0, "shared_intermediate_size": 64},
    "jamba": OLD_MAMBA | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    "lfm2": CONVOLUTION,
    "lfm2_moe": CONVOLUTION | EXPERTS | {"num_dense_layers": 1},
    "lfm3": {},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "n_groups": 1,
        "ssm_state_size": 8,
        "chunk_size": 8,
        "use_mamba_kernels": False,
    },
    "olmo_hybrid": DELTA,
    "qwen3_5_moe_text": DELTA | EXPERTS | {"shared_expert_intermediate_size": 32},
    "qwen3_5_text": DELTA,
    "qwen3_next": DELTA | EXPERTS | {"shared_expert_intermediate_size": 32},
    "zamba": ZAMBA,
    "zamba2": ZAMBA
    | {"mamba_ngroups": 1, "mamba_headdim": 24, "chunk_size": 8, "num_mem_blocks": 1, "adapter_rank": 4},
    "zaya": {},
}
REFUSED = {"falcon_h1", "nemotron_h"}  # by PEFT, for out_proj, which their fused kernels read themselves
PROMPTS = [tuple(range(5, 5 + length)) for length in (5, 31, 12)]


@pytest.fixture(params=sorted(SMALL))
def policy(request) -> Policy:
    name = request.param
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[name](**SIZES, **SMALL[name]), dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "in_proj"] if name in REFUSED else "all-linear"
    model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "A_log" not in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)  # layers that matter, and an adapter with an effect
    return Policy(model, character_tokenizer(string.ascii_letters), ENDS)


def sampled(policy: Policy, batch_size: int | None) -> list[Row]:
    uniforms = torch.rand(12, 24, generator=torch.Generator().manual_seed(0))
    groups = CachedSampler(policy, batch_size).sample(PROMPTS, TEMPERATURE, uniforms)
    return [
        Row(prompt, sample.token_ids, sample.logprobs)
        for prompt, group in zip(PROMPTS, groups, strict=True)
        for sample in group
    ]


def test_those_that_are_let_in_are_those_tried_here():
    assert set(SMALL) == RECURRENT


def test_neither_padding_nor_other_rows_change_a_row_and_a_step_makes_it_likelier(policy):
    rows = sampled(policy, None)
    assert len({len(row.completion_ids) for row in rows}) > 3
    for batch_size in (1, 5):
        assert [row.completion_ids for row in sampled(policy, batch_size)] == [row.completion_ids for row in rows]
    engine = Engine(policy, OptimizerSettings(learning_rate=1e-3), {"zero_optimization": {"stage": 0}}, TEMPERATURE)
    together, alone = (engine.score(rows, micro_batch_size=size) for size in (12, 1))
    for row, scores, own in zip(rows, together, alone, strict=True):
        assert scores == pytest.approx(own, abs=2e-4)
        assert row.old_logprobs == pytest.approx(scores, abs=2e-3)  # in prefill and training, states come in chunks
    with engine.training(seed=0):
        for start in (0, 6):
            part = collate(rows[start : start + 6], policy.pad_id, engine.device)
            engine.backward(-(engine.logprobs(part) * part.mask).sum() / 100, last=start == 6)
    engine.step()
    assert sum(map(sum, engine.score(rows, 12))) > sum(map(sum, together))
