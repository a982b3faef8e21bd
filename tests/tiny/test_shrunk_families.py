"""`--tiny --model DIR` for models whose layers keep states, and for those that also see or hear: a small copy is made,
gets an adapter in its layers for text alone, and sampling and scoring agree on it."""

import string

import pytest
import torch
from tests.tiny.released import write_config
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from fedrlvr.algorithms.lora import adapter_spec, initial_adapter
from fedrlvr.config import LoraSettings, OptimizerSettings, PromptSettings
from fedrlvr.learning.batch import Row
from fedrlvr.learning.cache import RECURRENT
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.lora_targets import check_targets
from fedrlvr.learning.model import load_policy, load_trained
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.peft_folder import Origin
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.site_config import LocalModel
from fedrlvr.tiny.base_model import BaseModelSettings
from fedrlvr.tiny.small_models import shrunk_model
from fedrlvr.tiny.small_tokenizers import character_tokenizer

CPU = torch.device("cpu")
SIZES = BaseModelSettings(hidden_size=64, num_layers=2, intermediate_size=48, num_heads=4, head_dim=16)
OPTIMIZER = (OptimizerSettings(), {"zero_optimization": {"stage": 0}}, 1.0)
TARGETS = dict.fromkeys(("falcon_h1", "nemotron_h"), ("q_proj", "v_proj", "in_proj"))
SEEING = {"gemma3", "gemma4", "got_ocr2", "fuyu", "qwen3_5", "qwen3_5_moe"}


@pytest.fixture(params=sorted(RECURRENT | SEEING))
def family(request, tmp_path):
    """(architecture, the folder of its small copy)"""
    write_config(tmp_path / "released", request.param, character_tokenizer(string.ascii_letters))
    return request.param, shrunk_model(tmp_path / "released", SIZES, tmp_path)


def test_a_small_copy_samples_and_its_adapter_is_for_text_alone(family, tmp_path):
    name, path = family
    model, prompt = LocalModel(model_path=path), PromptSettings()
    lora = LoraSettings(r=4, target_modules=TARGETS.get(name, "all-linear"))
    policy = load_policy(model, lora, prompt, CPU)
    assert sum(p.numel() for p in policy.model.parameters()) < 10_000_000
    engine = Engine(policy, *OPTIMIZER)
    spec = adapter_spec(engine.adapter())
    assert not [key for key in spec if "vision" in key or "projector" in key]
    assert adapter_spec(Engine(load_policy(model, lora, prompt, CPU), *OPTIMIZER).adapter()) == spec
    engine.load_adapter({key: tensor + 0.01 for key, tensor in initial_adapter(spec, 0).items()})
    prompts = [policy.encode(text) for text in ("abcab", "xy")]
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(0))
    groups = CachedSampler(policy).sample(prompts, 1.0, uniforms)
    rows = [
        Row(prompt, made.token_ids, made.logprobs)
        for prompt, group in zip(prompts, groups, strict=True)
        for made in group
    ]
    for row, scores in zip(rows, engine.score(rows, 8), strict=True):
        assert row.old_logprobs == pytest.approx(scores, abs=5e-3)  # in prefill and training, states come in chunks
    # What the server writes of it fits the model again, layer by layer.
    write_adapter(tmp_path / "adapter", engine.adapter(), lora, Origin(base_model="small"))
    loaded = load_trained(model, tmp_path / "adapter", prompt, CPU)
    ids = torch.tensor([prompts[0]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=ids).logits, policy.model(input_ids=ids).logits)


def test_gemma_3_gets_factors_in_its_language_model_and_nowhere_else(tmp_path):
    """Its vision tower has layers of the same names."""
    write_config(tmp_path / "released", "gemma3", character_tokenizer(string.ascii_letters))
    path = shrunk_model(tmp_path / "released", SIZES, tmp_path)
    lora = LoraSettings(target_modules=("q_proj", "v_proj"))
    policy = load_policy(LocalModel(model_path=path), lora, PromptSettings(), CPU)
    names = {name for name, _ in policy.model.named_modules()}
    assert "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj" in names
    assert {name.removesuffix(".lora_A.default") for name in names if name.endswith(".lora_A.default")} == {
        f"base_model.model.model.language_model.layers.{layer}.self_attn.{part}_proj"
        for layer in (0, 1)
        for part in "qv"
    }


def test_a_layer_of_the_vision_tower_alone_is_no_target(tmp_path):
    write_config(tmp_path / "released", "gemma3", character_tokenizer(string.ascii_letters))
    path = shrunk_model(tmp_path / "released", SIZES, tmp_path)
    with pytest.raises(ValueError, match=r"is called 'fc1'; it has down_proj, gate_proj, k_proj, o_proj, q_proj"):
        load_policy(LocalModel(model_path=path), LoraSettings(target_modules=("fc1",)), PromptSettings(), CPU)


def test_a_model_whose_other_senses_are_inside_its_layers_for_text_is_refused(tmp_path):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING["phi4_multimodal"](num_hidden_layers=1))
    with pytest.raises(ValueError, match=r"released: its layers for pictures or sound, such as model.*; use a model"):
        check_targets(model, LoraSettings(), tmp_path / "released")


def test_layers_that_peft_cannot_adapt_are_named_before_the_start(tmp_path):
    write_config(tmp_path / "released", "falcon_h1", character_tokenizer(string.ascii_letters))
    path = shrunk_model(tmp_path / "released", SIZES, tmp_path)
    said = r"all-linear: .* is a falcon_h1, whose kernels .* out_proj .*; name other layers: \[down_proj, gate_proj, "
    with pytest.raises(ValueError, match=said):
        load_policy(LocalModel(model_path=path), LoraSettings(target_modules="all-linear"), PromptSettings(), CPU)


def test_an_architecture_that_cannot_be_made_small_is_refused_by_name(tmp_path):
    write_config(tmp_path / "released", "gemma3n", character_tokenizer(string.ascii_letters))
    with pytest.raises(ValueError, match=r"released: no small copy of its architecture can be made \(.*; leave out"):
        shrunk_model(tmp_path / "released", SIZES, tmp_path)
