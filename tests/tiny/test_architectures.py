"""Small copies of large architectures: their sizes by hand, the architecture's features are kept, and they compute."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedrlvr.tiny.architectures import shrunk_config, small_config
from fedrlvr.tiny.base_model import Architecture, BaseModelSettings
from fedrlvr.tiny.small_models import shrunk_model
from fedrlvr.tiny.small_tokenizers import CHAT_STYLES, character_tokenizer, chat_tokenizer

SIZES = BaseModelSettings(hidden_size=64, num_layers=3, intermediate_size=48, num_heads=4, head_dim=16)
IDS = {"vocab_size": 320, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": [1, 2]}
ROPE = {"long_factor": [1.0] * 48, "short_factor": [1.0] * 48}
RELEASED = {  # config.json as released, but for the vocabulary
    "llama-3.2-3b": {
        "model_type": "llama",
        "hidden_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
    "phi-4-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_hidden_layers": 32,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "longrope", **ROPE},
        "sliding_window": 262144,
        "torch_dtype": "bfloat16",
    },
    "gemma-2-2b": {
        "model_type": "gemma2",
        "hidden_size": 2304,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "intermediate_size": 9216,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
    },
    "qwen2.5-3b": {
        "model_type": "qwen2",
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11008,
        "max_window_layers": 70,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
}
KEPT = {  # name -> (key, value) after shrinking
    "llama-3.2-3b": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "max_position_embeddings": 131072,
    },
    "phi-4-mini": {
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        "sliding_window": 32,
    },
    "gemma-2-2b": {
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": 16,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "qwen2.5-3b": {"num_key_value_heads": 2, "sliding_window": None, "layer_types": ["full_attention"] * 3},
}


@pytest.fixture
def released(tmp_path, request) -> Path:
    folder = tmp_path / "released"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(RELEASED[request.param] | IDS))
    return folder


def computes(config) -> torch.nn.Module:
    """A sequence of 50 tokens, longer than a window of 32, gives the same logits whole and in two parts."""
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(3, config.vocab_size, (1, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(ids).logits[:, 40:]
        first = model(ids[:, :40], use_cache=True)
        rest = model(ids[:, 40:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(rest, whole, atol=1e-5, rtol=1e-4)
    return model


@pytest.mark.parametrize("released", RELEASED, indirect=True)
def test_a_released_model_shrinks_to_one_of_its_kind_that_computes(released, request):
    name = request.node.callspec.params["released"]
    config = shrunk_config(released, SIZES)
    values = config.to_dict()
    assert config.model_type == RELEASED[name]["model_type"]
    assert {key: values[key] for key in KEPT[name]} == KEPT[name]
    assert (values["hidden_size"], values["num_hidden_layers"], values["num_attention_heads"]) == (64, 3, 4)
    assert (values["vocab_size"], values["eos_token_id"]) == (320, [1, 2])
    model = computes(config)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_every_architecture_has_a_small_model_with_the_tokenizers_ends(architecture):
    tokenizer = character_tokenizer("abc")
    config = small_config(SIZES.model_copy(update={"architecture": architecture}), tokenizer)
    assert config.model_type == architecture
    assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, None)
    model = computes(config)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_one_head_has_its_own_keys_and_values():
    config = small_config(BaseModelSettings(architecture="qwen2", num_heads=1), character_tokenizer("abc"))
    assert config.num_key_value_heads == 1


@pytest.mark.parametrize("released", ["llama-3.2-3b"], indirect=True)
def test_a_shrunk_model_keeps_architecture_and_tokenizer_and_loads_as_any_other(released, tmp_path):
    tokenizer = chat_tokenizer(["how many figs?"], "llama3", 320)
    tokenizer.save_pretrained(released)
    path = shrunk_model(released, SIZES, tmp_path / "models")
    assert path == tmp_path / "models" / "released-tiny"
    model, loaded = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    assert type(model).__name__ == "LlamaForCausalLM"
    # In each of three layers q and o are 64x64, k and v 64x32, the MLP's three 64x48, and there are two norms.
    layer = 2 * 64**2 + 2 * 64 * 32 + 3 * 64 * 48 + 2 * 64
    assert sum(p.numel() for p in model.parameters()) == 320 * 64 + 3 * layer + 64
    assert loaded.chat_template == CHAT_STYLES["llama3"].template
    assert loaded("how many <|eot_id|>").input_ids == tokenizer("how many <|eot_id|>").input_ids
    again = shrunk_model(released, SIZES, tmp_path / "models")
    assert torch.equal(AutoModelForCausalLM.from_pretrained(again).lm_head.weight, model.lm_head.weight)
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["released-tiny"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"model_type": "no_such_model"}'])
def test_a_source_without_a_known_configuration_is_refused_by_name(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"^{tmp_path}: its config.json cannot be read"):
        shrunk_model(tmp_path, SIZES, tmp_path / "models")


@pytest.mark.parametrize("released", ["qwen2.5-3b", "llama-3.2-3b"], indirect=True)
def test_a_source_without_a_tokenizer_is_refused_by_name(released, tmp_path):
    """Of a Qwen2 model transformers would make an empty one."""
    with pytest.raises(ValueError, match=f"^{released}: holds no tokenizer"):
        shrunk_model(released, SIZES, tmp_path / "models")
    assert not (tmp_path / "models").exists()
