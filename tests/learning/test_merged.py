"""Merged layers compute what LoRA layers compute, and leave no trace: base weights and modules are as before."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import JambaConfig, JambaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from fedrlvr.learning.merged import bytes_of_sums, merged

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
IDS = torch.arange(3, 15).reshape(2, 6)


def model(dtype=torch.float32, config=None, **lora):
    torch.manual_seed(0)
    base = Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS)) if config is None else JambaForCausalLM(config)
    settings = LoraConfig(**({"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | lora))
    adapted = get_peft_model(base.to(dtype), settings, autocast_adapter_dtype=False).eval()
    shake(adapted)
    return adapted


def shake(adapted) -> None:
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)


@torch.no_grad()
def logits(adapted) -> torch.Tensor:
    return adapted(input_ids=IDS).logits


def lora_calls(adapted) -> int:
    """How many LoRA matrices a forward pass uses."""
    calls = []
    hooks = [m.register_forward_hook(lambda *_: calls.append(1)) for n, m in adapted.named_modules() if "lora_A." in n]
    logits(adapted)
    for hook in hooks:
        hook.remove()
    return len(calls)


def test_merged_layers_compute_the_same_and_afterwards_everything_is_as_before():
    adapted = model()
    modules, state = list(adapted.modules()), copy.deepcopy(adapted.state_dict())
    expected, plain = logits(adapted), lora_calls(adapted)
    with merged(adapted):
        torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=1e-5)
        assert lora_calls(adapted) == 0
    assert plain == 14
    assert all(one is other for one, other in zip(adapted.modules(), modules, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in adapted.state_dict().items())
    assert torch.equal(logits(adapted), expected)


def test_an_error_in_the_block_leaves_no_trace_either():
    adapted = model()
    modules = list(adapted.modules())
    with pytest.raises(RuntimeError, match="in the block"), merged(adapted):
        raise RuntimeError("in the block")
    assert all(one is other for one, other in zip(adapted.modules(), modules, strict=True))


def test_the_adapter_of_now_is_merged_each_time():
    adapted = model()
    with merged(adapted):
        before = logits(adapted)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.mul_(2)
    expected = logits(adapted)
    with merged(adapted):
        torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-2)


def test_a_disabled_adapter_stays_disabled():
    adapted = model()
    with adapted.disable_adapter():
        expected = logits(adapted)
        with merged(adapted):
            assert torch.equal(logits(adapted), expected)
            assert bytes_of_sums(adapted) == 0
    assert not torch.allclose(logits(adapted), expected, atol=1e-2)


def test_dropout_that_acts_is_not_merged_away():
    adapted = model(lora_dropout=0.5).train()
    with merged(adapted):
        assert not torch.equal(logits(adapted), logits(adapted))
    adapted.eval()
    expected = logits(adapted)
    with merged(adapted):
        assert lora_calls(adapted) == 0
        torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=1e-5)


def test_several_active_adapters_are_summed():
    adapted = model()
    adapted.add_adapter("second", LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.base_model.set_adapter(["default", "second"])
    shake(adapted)
    expected = logits(adapted)
    with merged(adapted):
        assert lora_calls(adapted) == 0
        torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"lora_bias": True}])
def test_other_variants_are_left_alone(kind):
    """DoRA scales the sum; a bias on B cannot be added to a layer without one."""
    adapted = model(**kind)
    expected = logits(adapted)
    with merged(adapted):
        assert torch.equal(logits(adapted), expected)
        assert bytes_of_sums(adapted) == 0


def test_a_weight_that_the_model_reads_itself_stays_the_base_layers():
    """Jamba multiplies by dt_proj.weight instead of calling the layer, so the adapter does not act there in training
    and must not in sampling."""
    sizes = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "mamba_d_state": 8}
    config = JambaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2, use_mamba_kernels=False, **sizes)
    adapted = model(config=config)
    expected = logits(adapted)
    with merged(adapted):
        torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_the_sum_is_rounded_once():
    adapted = model(torch.bfloat16)
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    a, b = (part["default"].weight.detach().float() for part in (layer.lora_A, layer.lora_B))
    sums = (layer.weight.detach().float() + layer.scaling["default"] * (b @ a)).bfloat16()
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    with merged(adapted), torch.no_grad():
        own = adapted.base_model.model.model.layers[0].self_attn.q_proj(x)
    assert torch.equal(own, nn.functional.linear(x, sums))


def test_what_the_sums_take():
    """q and o: 32 x 32; k and v: 16 x 32; gate, up and down: 48 x 32. Two layers, four bytes."""
    assert bytes_of_sums(model()) == 2 * 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)
    assert bytes_of_sums(model(target_modules=["q_proj"])) == 2 * 4 * 32 * 32
    assert bytes_of_sums(Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS))) == 0
