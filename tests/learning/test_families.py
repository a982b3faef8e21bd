"""Every model family the README names: load, attach LoRA, sample, train a step, save, load again, merge. Small models
of the real classes with the family's chat format; where it has an attention window, prompts are longer than that."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fedrlvr.config import LoraSettings, OptimizerSettings, PromptSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.model import load_policy, load_trained
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.peft_folder import Origin
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

CHAT = {
    "qwen2": "chatml",
    "qwen3": "chatml",
    "llama": "llama3",
    "mistral": "mistral",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "phi": "phi",
    "phi3": "phi",
}
END_OF_TURN = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
}
CPU = torch.device("cpu")
DIFFERENT = pytest.mark.parametrize("family", ["qwen3", "gemma2", "phi"], indirect=True)  # whose layers are unlike
PROMPTS = ("how many figs?", "ana has 3 figs and gets 12 more from ben, who had 40 figs before. how many figs? " * 2)


@pytest.fixture(scope="module", params=list(CHAT))
def family(request, tmp_path_factory):
    """(architecture, model directory)"""
    name = request.param
    settings = BaseModelSettings(architecture=name, chat=CHAT[name], steps=0, num_layers=3, hidden_size=48, num_heads=4)
    task = TASKS["arithmetic"]
    return name, base_model(task, task, settings, tmp_path_factory.mktemp(name))


def engine_of(path, checkpointing: bool = False, **lora) -> Engine:
    settings = LoraSettings(**({"target_modules": "all-linear", "r": 4} | lora))
    model = LocalModel(model_path=path, gradient_checkpointing=checkpointing)
    policy = load_policy(model, settings, PromptSettings(), CPU)
    return Engine(policy, OptimizerSettings(learning_rate=1e-2), {"zero_optimization": {"stage": 0}}, temperature=0.7)


def sampled_rows(engine: Engine) -> list[Row]:
    policy = engine.policy
    prompts = [policy.encode_prompt(text) for text in PROMPTS]
    uniforms = torch.rand(8, 10, generator=torch.Generator().manual_seed(0))
    groups = CachedSampler(policy, batch_size=8).sample(prompts, engine.temperature, uniforms)
    return [
        Row(prompt, sample.token_ids, sample.logprobs)
        for prompt, group in zip(prompts, groups, strict=True)
        for sample in group
    ]


def step_towards(engine: Engine, rows: list[Row]) -> None:
    engine.backward(-engine.logprobs(collate(rows, engine.policy.pad_id, engine.device)).sum() / 10, last=True)
    engine.step()


def test_a_prompt_goes_through_the_chat_format_and_an_answer_ends_the_turn(family):
    name, path = family
    policy = load_trained(LocalModel(model_path=path), None, PromptSettings(), CPU)
    text = policy.tokenizer.decode(list(policy.encode_prompt("how many figs?")))
    assert text.count("how many figs?") == 1
    assert len(text) > len("how many figs?") + 5
    assert policy.tokenizer.convert_ids_to_tokens(policy.eos_ids[0]) == END_OF_TURN[CHAT[name]]
    assert policy.model.config.eos_token_id in policy.eos_ids


def test_sampling_training_and_scoring_see_the_same_policy(family):
    _, path = family
    engine = engine_of(path)
    rows = sampled_rows(engine)
    step_towards(engine, rows)  # so that the adapter has an effect
    rows = sampled_rows(engine)
    for row, scores in zip(rows, engine.score(rows, micro_batch_size=3), strict=True):
        assert row.old_logprobs == pytest.approx(scores, abs=2e-4)


def test_a_step_makes_its_completions_likelier_and_the_adapter_survives_save_load_and_merge(family, tmp_path):
    _, path = family
    engine = engine_of(path)
    rows = sampled_rows(engine)
    before = sum(map(sum, engine.score(rows, 8)))
    for _ in range(3):
        step_towards(engine, rows)
    after = engine.score(rows, 8)
    assert sum(map(sum, after)) > before
    engine.save_adapter(tmp_path / "adapter", Origin(base_model="Org/Some-Model"))
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert written == {"adapter_config.json", "adapter_model.safetensors", "fedrlvr.json"}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "Org/Some-Model"
    ids = torch.tensor([rows[0].prompt_ids + rows[0].completion_ids])
    with torch.no_grad():
        expected = engine.policy.model(input_ids=ids).logits
        loaded = load_trained(LocalModel(model_path=path), tmp_path / "adapter", PromptSettings(), CPU).model
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)
        base = AutoModelForCausalLM.from_pretrained(path)
        merged = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=2e-4, rtol=1e-4)


def of_every_length(engine: Engine) -> list[Row]:
    """Rows of a short and a long prompt, both of them several times; one is a single token long."""
    random, size = torch.Generator().manual_seed(3), engine.policy.model.config.vocab_size
    prompts = [engine.policy.encode_prompt(text) for text in PROMPTS]
    lengths = (10, 1, 7, 33, 2, 50)
    tokens = [tuple(torch.randint(3, size, (length,), generator=random).tolist()) for length in lengths]
    return [Row(prompts[i % 2], completion) for i, completion in enumerate(tokens)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_have_the_logprobs_and_gradients_of_padded_ones(family, checkpointing):
    """Beside the model's own forward pass, which knows nothing of packing and of chunks of logits."""
    _, path = family
    engine = engine_of(path, checkpointing)
    random = torch.Generator().manual_seed(0)
    adapter = {name: torch.randn(t.shape, generator=random) * 0.1 for name, t in engine.adapter().items()}
    engine.load_adapter(adapter)
    batch = collate(of_every_length(engine), engine.policy.pad_id, CPU)
    weights = torch.randn(batch.mask.shape, generator=random)
    assert engine.scorer.packs
    results = []
    for way in (engine.scorer._packed, engine.scorer._padded, engine.scorer._plain):
        engine.scorer._way = way
        with engine.training(seed=0, bare=True):
            logprobs = engine.logprobs(batch)
            gradient = torch.autograd.grad((logprobs * weights).sum(), engine.lora_parameters)
        results.append((logprobs.detach(), torch.cat([part.flatten() for part in gradient])))
    *others, (expected, plain) = results
    for found, gradient in others:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradient, plain, atol=1e-5 * float(plain.abs().max()), rtol=1e-4)


def test_lora_goes_where_the_preset_says(family):
    name, path = family
    targets = ("qkv_proj",) if name == "phi3" else ("q_proj", "v_proj")
    adapter = engine_of(path, target_modules=targets).adapter()
    assert len(adapter) == 2 * 3 * len(targets)  # A and B, three layers
    assert all(any(f".{target}." in tensor for target in targets) for tensor in adapter)
    everywhere = engine_of(path).adapter()
    assert len(everywhere) > len(adapter)
    assert not any("lm_head" in tensor for tensor in everywhere)


def gradients(engine: Engine, rows: list[Row]) -> tuple[list[torch.Tensor], int]:
    """The gradient of the rows' likelihood, and how often the first layer's attention ran for it (recomputing
    stops within the layer, as soon as all that the backward pass needs is there)."""
    engine.load_adapter({name: torch.full_like(value, 0.01) for name, value in engine.adapter().items()})
    runs = []
    attention = next(
        module for name, module in engine.policy.model.named_modules() if name.endswith("layers.0.self_attn")
    )
    attention.register_forward_hook(lambda *_: runs.append(1))
    with engine.training(seed=0):
        engine.backward(-engine.logprobs(collate(rows, engine.policy.pad_id, CPU)).sum(), last=True)
    return [p.grad.clone() for p in engine.policy.model.parameters() if p.requires_grad], len(runs)


@DIFFERENT
def test_checkpointing_computes_layers_twice_and_the_same_gradient(family):
    _, path = family
    rows = sampled_rows(engine_of(path))
    (plain, once), (saved, twice) = (gradients(engine_of(path, checkpointing=c), rows) for c in (False, True))
    assert (once, twice) == (1, 2)
    for one, other in zip(plain, saved, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@DIFFERENT
def test_dropout_acts_in_training_only_and_its_mask_is_the_seeds(family):
    _, path = family
    engine = engine_of(path, dropout=0.5)
    assert engine.random_dropout
    assert not engine_of(path).random_dropout
    engine.load_adapter({name: torch.full_like(value, 0.05) for name, value in engine.adapter().items()})
    rows = sampled_rows(engine)
    batch = collate(rows, engine.policy.pad_id, CPU)

    def logprobs(seed: int) -> torch.Tensor:
        with torch.no_grad(), engine.training(seed):
            return engine.logprobs(batch)

    state = torch.get_rng_state()
    assert torch.equal(logprobs(1), logprobs(1))
    assert not torch.equal(logprobs(1), logprobs(2))
    assert torch.equal(state, torch.get_rng_state())
    for row, scores in zip(rows, engine.score(rows, 8), strict=True):  # sampled and scored without it
        assert row.old_logprobs == pytest.approx(scores, abs=2e-4)
