"""What the doctor says of a step's memory."""

import json
import shutil

import pytest
import torch

from fedrlvr.learning.requirement import Requirement
from fedrlvr.site import memory_check
from fedrlvr.site.checks import GIB
from fedrlvr.site.memory_check import check_step_memory, longest_prompt, verdict


@pytest.mark.parametrize(("free", "status"), [(8.0, "ok"), (6.0, "failed")])
def test_the_largest_part_names_the_setting_to_lower(free, status):
    need = Requirement(weights=1 * GIB, adapter=0.5 * GIB, sampling=2 * GIB, training=3 * GIB, rows=64)
    finding = verdict(need, free * GIB, "this machine")
    assert (finding.about, finding.status) == ("step memory", status)
    assert finding.text == (
        f"about 7.0 of {free:.1f} GiB free on this machine for a rank's step: weights 1.0, adapter 0.5, sampling 2.0, "
        "training 3.0; 64 completions sampled at once"
    )
    assert finding.remedy == "a smaller micro_batch_size, or gradient_checkpointing: true"
    assert verdict(need, 5.1 * GIB, "GPU 0").status == "ok"


def test_it_is_worked_out_for_this_job_at_this_site(site_files, small_job):
    _, configs = site_files({"site-1": ("A", "B")})
    config = configs["site-1"]
    assert longest_prompt(config, small_job()) == 6  # A3725?
    shown = {"instruction": "12", "chat_template": "never"}
    assert longest_prompt(config, small_job(prompt=shown)) == 10  # two line ends, unknown to this model, and 12
    assert longest_prompt(config, small_job(grpo__max_prompt_length=5)) == 5  # longer ones are left out
    finding = check_step_memory(configs["site-1"], small_job())
    assert finding.status == "ok"
    assert "16 completions sampled at once" in finding.text


@pytest.mark.parametrize(
    ("gpus", "processes", "free"),
    [
        ({}, 1, "of 8.0 GiB free on this machine"),
        ({}, 2, "of 4.0 GiB free on this machine"),
        ({0: 6, 1: 5}, 2, "of 5.0 GiB free on GPU 1"),
        ({0: 6, 1: 5}, 3, "of 2.5 GiB free on GPU 1"),  # two ranks share a card
    ],
)
def test_ranks_share_what_is_free(site_files, small_job, monkeypatch, gpus, processes, free):
    _, configs = site_files({"site-1": ("A", "B")})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(memory_check, "free_memory", lambda device: gpus.get(device.index, 8) * GIB)
    changes = {"processes": processes, "device": "auto"}
    assert free in check_step_memory(configs["site-1"].model_copy(update=changes), small_job()).text


def test_a_model_that_needs_more_than_shapes_is_a_warning(site_files, small_job, tmp_path):
    _, configs = site_files({"site-1": ("A", "B")})
    model = shutil.copytree(configs["site-1"].model_path, tmp_path / "model")
    values = json.loads((model / "config.json").read_text()) | {"num_attention_heads": 5}  # of a width of 64
    (model / "config.json").write_text(json.dumps(values))
    finding = check_step_memory(configs["site-1"].model_copy(update={"model_path": model}), small_job())
    assert finding.status == "warning"
    assert finding.text.startswith("cannot be worked out for this model: ")
