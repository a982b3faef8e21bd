"""A run that starts from an adapter of an earlier one: the same factors reach every site, and one that does not fit
ends the run before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.runs import of, round_adapters, run_here, spec_of

from fedrlvr.config import LoraSettings
from fedrlvr.run import RunFailed
from fedrlvr.server.adapter_folder import read_adapter
from fedrlvr.settings_file import SettingsError

SITES = {"site-1": ("A",), "site-2": ("B",)}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


@pytest.fixture
def first(small_job, sites, tmp_path) -> Path:
    """The adapter of a run of one round."""
    run_here(tmp_path / "first", spec_of(small_job(), sites), sites)
    (adapter,) = (tmp_path / "first" / "local" / "server" / "rounds").iterdir()
    return adapter


def edit(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_begins_where_the_other_ended(small_job, sites, tmp_path, first):
    """With a rate of 0, nothing moves: the averaged adapter is the first one, but for the rounding of its SVD."""
    job = small_job(optimizer__learning_rate=0.0, federation__aggregator="fedit")
    _, run = run_here(tmp_path / "next", spec_of(job, sites), sites, start_from=first)
    ended = load_file(run.server_folder / "rounds" / "0" / "adapter_model.safetensors")
    begun = load_file(first / "adapter_model.safetensors")
    assert ended.keys() == begun.keys()
    assert all(torch.equal(ended[name], begun[name]) for name in begun)
    assert any(bool(begun[name].any()) for name in begun if ".lora_B." in name)
    plain = run_here(tmp_path / "plain", spec_of(job, sites), sites)[1]
    assert round_adapters(plain) != round_adapters(run)


def test_an_adapter_in_bfloat16_is_taken_as_float32(first):
    path = first / "adapter_model.safetensors"
    whole = load_file(path)
    save_file({name: tensor.bfloat16() for name, tensor in whole.items()}, path)
    read = read_adapter(first, LoraSettings())
    assert list(read) == sorted(whole)
    assert all(torch.equal(read[name], whole[name].bfloat16().float()) for name in read)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 4}, "has r 4, the job's lora needs 8"),
        ({"lora_alpha": 32}, "has lora_alpha 32, the job's lora needs 16.0"),
        ({"peft_type": "LOHA"}, "has peft_type 'LOHA', the job's lora needs 'LORA'"),
        ({"use_dora": True}, "has use_dora True"),
        ({"rank_pattern": {"q_proj": 2}}, "has rank_pattern"),
        ({"bias": "all"}, "has bias 'all'"),
    ],
)
def test_an_adapter_that_computes_something_else_is_refused(first, changes, said):
    edit(first, use_rslora=False, alpha_pattern={}, bias="none", modules_to_save=None)  # as PEFT writes it
    read_adapter(first, LoraSettings())
    edit(first, **changes)
    with pytest.raises(SettingsError, match=f"start_from: .*{said}"):
        read_adapter(first, LoraSettings())


def test_a_folder_that_is_no_adapter_is_refused(first, tmp_path):
    (first / "adapter_config.json").write_text("[]")
    for folder in (tmp_path / "nowhere", first):
        with pytest.raises(SettingsError, match="cannot be read as a PEFT directory with safetensors"):
            read_adapter(folder, LoraSettings())


def test_an_adapter_of_another_model_ends_the_run_before_a_step(small_job, sites, tmp_path, first):
    path = first / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if ".layers.1." not in name}, path)
    with pytest.raises(RunFailed, match=r"is no adapter of this job's model and lora: tensor .*layers.1.* is missing"):
        run_here(tmp_path / "next", spec_of(small_job(), sites), sites, start_from=first)
    lines = (tmp_path / "next" / "local" / "server" / "metrics.jsonl").read_text().splitlines()
    assert not of([json.loads(line) for line in lines], "step")
