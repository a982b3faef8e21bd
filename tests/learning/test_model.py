"""Loading a policy from a directory: what is damaged, foreign or incomplete is refused by name, and nothing in a
directory is ever run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import Policy, load_base, load_policy, load_trained
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

CPU = torch.device("cpu")
TASK = TASKS["protocol"]
SMALL = BaseModelSettings(
    hidden_size=16, num_layers=2, intermediate_size=16, num_heads=2, head_dim=8, max_position_embeddings=64, steps=0
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def original(models) -> Path:
    return base_model(TASK, TASK, SMALL, models)


@pytest.fixture
def model(original, tmp_path) -> Path:
    """A copy of the small model, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def policy_of(path: Path, **lora) -> Policy:
    return load_policy(LocalModel(model_path=path), LoraSettings(**lora), PromptSettings(), CPU)


def adapter_of(path: Path, folder: Path, fill: float = 0.01, **lora) -> Path:
    """A PEFT directory that changes the logits of the model in `path`."""
    policy = policy_of(path, **lora)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(fill)
    policy.model.save_pretrained(folder)
    return folder


def trained(path: Path, adapter: Path | None = None, **settings) -> Policy:
    return load_trained(LocalModel(model_path=path, **settings), adapter, PromptSettings(), CPU)


def logits(policy: Policy) -> torch.Tensor:
    ids = torch.tensor([policy.encode("A3725?p3,7=0")])
    with torch.no_grad():
        return policy.model(input_ids=ids).logits


def refusal(path: Path, adapter: Path | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        trained(path, adapter)
    assert str(adapter or path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_config(path: Path, **changes) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_weights_that_only_pickle_could_load_are_refused_before_anything_is_loaded(model):
    weights = load_file(model / "model.safetensors")
    torch.save(weights, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"only pickle weights \(pytorch_model.bin\), which can run code"):
        LocalModel(model_path=model).check_model()
    assert "cannot be loaded as a causal language model" in refusal(model)  # and neither where nobody checked first


def test_a_directory_without_weights_or_without_a_configuration_is_refused(model, tmp_path):
    (model / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights in .*; expected \*.safetensors"):
        LocalModel(model_path=model).check_model()
    with pytest.raises(FileNotFoundError, match="no config"):
        LocalModel(model_path=tmp_path / "nowhere").check_model()


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:5], lambda b: b"", lambda b: b"\x10" * 50])
def test_damaged_weights_are_refused(model, damage):
    """Cut off in the middle of a copy, empty, or another kind of file."""
    weights = model / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    assert "cannot be loaded as a causal language model: Error while deserializing header" in refusal(model)


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_filled_up_at_random(model):
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing, such as model.layers.1.mlp.up_proj.weight" in refusal(model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "no_such_model"}, "no_such_model"),
        ({"model_type": "t5"}, "Unrecognized configuration class"),  # known, but no causal language model
        ({"hidden_size": 32}, ""),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}, "weights are missing"),
    ],
)
def test_a_configuration_that_does_not_go_with_the_weights_is_refused(model, changes, said):
    edit_config(model, **changes)
    assert said in refusal(model)


@pytest.mark.parametrize("text", ["{nope", "[]", ""])
def test_a_configuration_that_is_no_json_object_is_refused(model, text):
    (model / "config.json").write_text(text)
    refusal(model)


@pytest.mark.parametrize("kind", ["qwen3", "of_its_own"])
def test_a_models_own_code_is_never_run(model, tmp_path, kind):
    marker = tmp_path / "was here"
    (model / "modeling_own.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nclass Own: pass\nclass OwnConfig: pass"
    )
    own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"}
    edit_config(model, model_type=kind, auto_map=own, architectures=["Own"])
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoTokenizer": ["modeling_own.Own", "modeling_own.Own"]}})
    )
    if kind == "qwen3":  # transformers has code for it
        assert type(load_base(LocalModel(model_path=model), CPU)[0]).__module__.startswith("transformers.")
    else:
        refusal(model)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "gemma"])
def test_a_missing_tokenizer_is_refused_and_not_replaced_by_an_empty_one(model, kind):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    edit_config(model, model_type=kind)
    assert "holds no tokenizer; expected tokenizer.json" in refusal(model)


@pytest.mark.parametrize("text", ["", "{}", '{"version": "1.0", "added_tokens": []}', '{"model": '])
def test_a_damaged_tokenizer_is_refused(model, text):
    (model / "tokenizer.json").write_text(text)
    assert "its tokenizer cannot be read" in refusal(model)


def test_a_model_without_an_end_token_is_refused(model):
    for name, ends in (("config.json", "eos_token_id"), ("generation_config.json", "eos_token_id")):
        values = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(values | {ends: None}))
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert "neither model nor tokenizer names an end-of-sequence token" in refusal(model)


def test_a_tokenizer_with_more_characters_than_the_model_has_embeddings_is_refused(model):
    """Of two models that were mixed up: some text would have no embedding."""
    weights = load_file(model / "model.safetensors")
    size = len(weights["model.embed_tokens.weight"]) - 2
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:size].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    edit_config(model, vocab_size=size)
    said = refusal(model)
    assert f"the tokenizer has 2 tokens beyond the {size} embeddings of the model, such as number {size}" in said


def test_an_added_token_without_an_embedding_is_no_padding_and_no_end(model):
    """As in many fine-tuned models, whose authors added a token for padding."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    size, end = len(tokenizer), tokenizer.eos_token_id
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    values = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(values | {"eos_token_id": [size, end]}))
    policy = trained(model)
    assert policy.tokenizer.pad_token_id == size == policy.embeddings
    assert policy.eos_ids == (end,)
    assert policy.pad_id == end


def test_an_adapter_changes_the_model_as_it_did_where_it_was_saved(original, tmp_path):
    adapter = adapter_of(original, tmp_path / "adapter")
    before, after = logits(trained(original)), logits(trained(original, adapter))
    assert not torch.allclose(before, after)
    again = policy_of(original)
    for parameter in again.model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.01)
    torch.testing.assert_close(after, logits(again))


@pytest.mark.parametrize("other", [{"hidden_size": 32}, {"num_layers": 1}, {"num_layers": 3}, {"architecture": "phi3"}])
def test_an_adapter_of_another_base_model_is_refused(original, models, tmp_path, other):
    """Also where all that it has would fit: more layers, or fewer."""
    adapter = adapter_of(original, tmp_path / "adapter")
    assert "does not fit the model in" in refusal(
        base_model(TASK, TASK, SMALL.model_copy(update=other), models), adapter
    )


def test_an_adapter_without_safetensors_or_settings_or_with_damaged_ones_is_refused(original, tmp_path):
    adapter = adapter_of(original, tmp_path / "adapter")
    weights, settings = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    whole, said = weights.read_bytes(), settings.read_text()
    weights.write_bytes(whole[:-50])
    assert "adapter_model.safetensors: cannot be read" in refusal(original, adapter)
    torch.save(load_file(adapter_of(original, tmp_path / "other") / weights.name), adapter / "adapter_model.bin")
    weights.unlink()
    assert "no adapter_model.safetensors; expected a PEFT adapter directory" in refusal(original, adapter)
    weights.write_bytes(whole)
    for text in ("{", json.dumps(json.loads(said) | {"peft_type": "NO_SUCH"})):
        settings.write_text(text)
        refusal(original, adapter)
    settings.unlink()
    refusal(original, adapter)
    refusal(original, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("targets", "missing"),
    [
        (["nothing"], "nothing"),
        (["q_proj", "v_porj"], "v_porj"),  # the first of them would do
        (["proj"], "proj"),  # the end of a name is a whole part of it
        (["q_norm"], "q_norm"),  # there, but not linear
        (["embed_tokens"], "embed_tokens"),
        (["lm_head"], "lm_head"),
    ],
)
def test_lora_targets_that_match_nothing_are_refused_with_what_there_is(original, targets, missing):
    with pytest.raises(ValueError) as caught:
        policy_of(original, target_modules=targets)
    assert f"is called {missing!r}; it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj" in str(caught.value)


def test_lora_targets_may_be_longer_parts_of_a_name(original):
    names = [n for n, p in policy_of(original, target_modules=["0.self_attn.q_proj"]).model.named_parameters()]
    adapted = [name for name in names if "lora" in name]
    assert len(adapted) == 2
    assert all(".layers.0.self_attn.q_proj." in name for name in adapted)


def test_every_attention_implementation_computes_the_same(original):
    policies = [trained(original, attn_implementation=name) for name in ("eager", "sdpa")]
    assert [policy.model.config._attn_implementation for policy in policies] == ["eager", "sdpa"]
    torch.testing.assert_close(*map(logits, policies), atol=1e-5, rtol=1e-4)
