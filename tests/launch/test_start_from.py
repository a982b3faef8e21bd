"""A run that starts from an adapter of an earlier one: the same factors reach every site, and one that does not fit
ends the run before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.runs import of, round_adapters, run_here, spec_of

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import LoraSettings
from fedrlvr.peft_folder import Origin
from fedrlvr.run import RunFailed
from fedrlvr.server.adapter_folder import read_adapter, write_adapter
from fedrlvr.settings_file import SettingsError

SITES = {"site-1": ("A",), "site-2": ("B",)}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    """An adapter of one layer."""
    spec = {"q_proj.lora_A.weight": [8, 4], "q_proj.lora_B.weight": [4, 8]}
    adapter = {name: tensor + 0.3 for name, tensor in initial_adapter(spec, seed=0).items()}
    write_adapter(tmp_path / "first", adapter, LoraSettings(), Origin(base_model="tiny"))
    return tmp_path / "first"


def edit(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_begins_where_the_other_ended(small_job, sites, tmp_path):
    """With a rate of 0 nothing moves, and the average is the first adapter."""
    run_here(tmp_path / "first", spec_of(small_job(), sites), sites)
    (first,) = (tmp_path / "first" / "local" / "server" / "rounds").iterdir()
    job = small_job(optimizer__learning_rate=0.0, federation__aggregator="fedit")
    _, run = run_here(tmp_path / "next", spec_of(job, sites), sites, start_from=first)
    ended = load_file(run.server_folder / "rounds" / "0" / "adapter_model.safetensors")
    begun = load_file(first / "adapter_model.safetensors")
    assert ended.keys() == begun.keys()
    assert all(torch.equal(ended[name], begun[name]) for name in begun)
    assert any(bool(begun[name].any()) for name in begun if ".lora_B." in name)
    plain = run_here(tmp_path / "plain", spec_of(job, sites), sites)[1]
    assert round_adapters(plain) != round_adapters(run)


def test_an_adapter_in_bfloat16_is_taken_as_float32(folder):
    path = folder / "adapter_model.safetensors"
    whole = load_file(path)
    save_file({name: tensor.bfloat16() for name, tensor in whole.items()}, path)
    read = read_adapter(folder, LoraSettings())
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
def test_an_adapter_that_computes_something_else_is_refused(folder, changes, said):
    edit(folder, use_rslora=False, alpha_pattern={}, bias="none", modules_to_save=None)  # as PEFT writes it
    read_adapter(folder, LoraSettings())
    edit(folder, **changes)
    with pytest.raises(SettingsError, match=f"start_from: .*{said}"):
        read_adapter(folder, LoraSettings())


def test_a_folder_that_is_no_adapter_is_refused(folder, tmp_path):
    (folder / "adapter_config.json").write_text("[]")
    for path in (tmp_path / "nowhere", folder):
        with pytest.raises(SettingsError, match="cannot be read as a PEFT directory with safetensors"):
            read_adapter(path, LoraSettings())


def test_an_adapter_of_another_model_ends_the_run_before_a_step(small_job, sites, tmp_path, folder):
    with pytest.raises(RunFailed, match=r"is no adapter of this job's model and lora: tensor .*layers.* is missing"):
        run_here(tmp_path / "next", spec_of(small_job(), sites), sites, start_from=folder)
    lines = (tmp_path / "next" / "local" / "server" / "metrics.jsonl").read_text().splitlines()
    assert not of([json.loads(line) for line in lines], "step")
