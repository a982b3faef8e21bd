"""LoRA's layers with their sums in place compute what PEFT's own do."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from fedrlvr.learning.fused_lora import fuse

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])
SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "num_attention_heads": 2}


def made(kind, config, **lora):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **lora)
        return get_peft_model(kind(config(**SIZES, pad_token_id=0)), settings, autocast_adapter_dtype=False).eval()


@pytest.fixture(params=[(LlamaForCausalLM, LlamaConfig), (PhiForCausalLM, PhiConfig)], ids=["no bias", "bias"])
def kind(request):
    return request.param


def outcome(model) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    (logits.log_softmax(-1)[..., 3] * torch.tensor([1.0, -2.0, 0.5, 3.0])).sum().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_and_gradients_are_pefts(kind, dtype):
    model = made(*kind).to(dtype)
    expected, plain = outcome(model)
    fuse(model)
    found, gradients = outcome(model)
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.1}
    torch.testing.assert_close(found, expected, **near)
    for gradient, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(gradient, other, **near)
    assert max(float(gradient.abs().max()) for gradient in plain) > 1e-3


def test_an_adapter_that_is_off_merged_or_drops_is_pefts_own(kind):
    model = made(*kind, lora_dropout=0.5)
    with torch.no_grad(), model.disable_adapter():
        base = model(input_ids=IDS).logits
    with torch.no_grad():
        adapted = model(input_ids=IDS).logits
    fuse(model)
    with torch.no_grad():
        with model.disable_adapter():
            torch.testing.assert_close(model(input_ids=IDS).logits, base)
        model.train()
        assert not torch.allclose(model(input_ids=IDS).logits, adapted, atol=1e-3)
        model.eval()
        model.merge_adapter()
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-5, rtol=1e-5)
        model.unmerge_adapter()
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-5, rtol=1e-5)
