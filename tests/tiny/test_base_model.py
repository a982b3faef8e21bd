"""The tiny base model: one token a character, built once, the same bytes every time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.protocol import Protocol
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.small_models import _batch, warm_start
from fedrlvr.tiny.small_tokenizers import character_tokenizer
from fedrlvr.types import Problem

TASK = TASKS["protocol"]
TINY = BaseModelSettings(
    hidden_size=16, num_layers=1, intermediate_size=16, num_heads=1, head_dim=8, steps=3, batch_size=4
)
ALPHABET = TASKS["arithmetic"].alphabet


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(ALPHABET)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


def encode(tokenizer, text: str) -> list[int]:
    """As untrusted text is encoded."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids


@settings(max_examples=50, deadline=None)
@given(st.text(ALPHABET, max_size=40))
def test_text_round_trips_with_one_token_per_character(text):
    tokenizer = character_tokenizer(ALPHABET)
    ids = encode(tokenizer, text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["<eos>", "a<eos>b", "<pad>", "<unk>"])
def test_a_special_tokens_name_in_a_text_is_not_that_token(tokenizer, text):
    ids = encode(tokenizer, text)
    assert len(ids) == len(text)
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)


def test_a_character_outside_the_alphabet_is_unknown_and_nothing_else(tokenizer):
    a, unknown, b = encode(tokenizer, "aéb")
    assert [a, unknown, b] == [*encode(tokenizer, "a"), tokenizer.unk_token_id, *encode(tokenizer, "b")]


def test_special_tokens_are_distinct_and_left_out_of_decoded_text(tokenizer):
    special = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert len(set(special)) == 3
    ids = [tokenizer.pad_token_id, *encode(tokenizer, "4 figs"), tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "4 figs"


def test_the_loss_is_on_the_demonstration_and_its_end_only(tokenizer):
    task = TASKS["arithmetic"]
    batch = _batch(task, task, tokenizer, tokenizer.eos_token_id, 8, np.random.default_rng(0))
    assert batch["input_ids"].shape[0] == 8
    for ids, labels, mask in zip(*(batch[key] for key in ("input_ids", "labels", "attention_mask")), strict=True):
        taught = labels != -100
        assert torch.equal(ids[taught], labels[taught])
        prompt = tokenizer.decode(ids[~taught & mask.bool()])
        answer = tokenizer.decode(ids[taught])
        assert prompt.endswith("?\n")
        assert answer.endswith("}<eos>")
        assert "boxed" not in prompt
        assert not taught[mask == 0].any()


def test_warm_starting_lowers_the_loss():
    losses = []
    longer = TINY.model_copy(update={"steps": 40, "batch_size": 8, "learning_rate": 2e-2})
    warm_start(TASK, TASK, longer, lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21])
def test_any_number_of_steps_will_do(steps):
    """At 20, the learning rate once rose within a step, and PyTorch divided by the time that this took."""
    losses = []
    warm_start(TASK, TASK, TINY.model_copy(update={"steps": steps}), lambda *told: losses.append(told[2]))
    assert len(losses) == steps


def test_warm_starting_leaves_threads_and_global_randomness_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads()
    warm_start(TASK, TASK, TINY, lambda *_: None)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_a_built_model_loads_as_any_model_does(models):
    path = base_model(TASK, TASK, TINY, models)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    built, built_tokenizer = warm_start(TASK, TASK, TINY, lambda *_: None)
    text = TASK.alphabet
    assert encode(tokenizer, text) == encode(built_tokenizer, text)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<eos>", "<pad>", "left")
    assert len(encode(tokenizer, "<eos>")) == 5
    ids = torch.tensor([encode(tokenizer, text)])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, built(input_ids=ids).logits)
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_a_second_call_finds_the_model_and_rebuild_makes_it_anew(models):
    path = base_model(TASK, TASK, TINY, models)
    steps = []
    first = (path / "model.safetensors").stat()
    assert base_model(TASK, TASK, TINY, models, progress=lambda *step: steps.append(step)) == path
    found = (path / "model.safetensors").stat()
    assert (found.st_ino, found.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert steps == []
    content = (path / "model.safetensors").read_bytes()
    assert base_model(TASK, TASK, TINY, models, rebuild=True, progress=lambda *step: steps.append(step[:2])) == path
    assert (path / "model.safetensors").stat().st_mtime_ns != first.st_mtime_ns
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (path / "model.safetensors").read_bytes() == content
    assert [entry.name for entry in models.iterdir()] == [path.name]  # nothing half-made beside it


def test_two_builds_are_the_same_byte_for_byte(models, tmp_path):
    one, other = base_model(TASK, TASK, TINY, models), base_model(TASK, TASK, TINY, tmp_path)
    assert one.name == other.name
    files = sorted(entry.name for entry in one.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert files == sorted(entry.name for entry in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


class AlwaysRight(Protocol):
    """The same task by name, with other demonstrations."""

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        return self.gold_completion(problem)


def test_other_settings_other_tasks_and_other_demonstrations_have_other_folders(tmp_path):
    quick = TINY.model_copy(update={"steps": 0})
    paths = {
        base_model(TASK, TASK, quick, tmp_path),
        base_model(TASK, TASK, quick.model_copy(update={"seed": 1}), tmp_path),
        base_model(TASKS["arithmetic"], TASKS["arithmetic"], quick, tmp_path),
        base_model(AlwaysRight(), AlwaysRight(), quick, tmp_path),
    }
    assert len(paths) == 4
    assert json.loads((base_model(TASK, TASK, quick, tmp_path) / "config.json").read_text())["hidden_size"] == 16


def test_a_build_that_breaks_off_leaves_nothing_to_be_found(tmp_path):
    def stop(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base_model(TASK, TASK, TINY, tmp_path, progress=stop)
    assert list(tmp_path.glob("*")) == []
