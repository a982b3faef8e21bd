"""Bad input at a site is found before a model is loaded, and the message says what to do."""

from __future__ import annotations

import json

import pytest
import torch

from fedrlvr.data.problems import ProblemFileError
from fedrlvr.site.build import build_trainer
from fedrlvr.site.ranks import Ranks


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "another"}, "model: the job is for 'tiny', this site's file offers 'another'"),
        ({"model_path": "/nonexistent"}, "model_path: no config.json in /nonexistent; expected a Hugging Face model"),
        ({"deepspeed_config": "/nonexistent"}, "deepspeed_config: no such file: /nonexistent"),
        ({"private_problems": "/nonexistent"}, "private_problems: no such file: /nonexistent"),
    ],
)
def test_a_site_file_that_points_nowhere(site_files, job, changes, reason):
    manifest, configs = site_files({"site-1": ("A",)}, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())


def test_another_public_set_than_agreed(site_files, job):
    _, configs = site_files({"site-1": ("A",)})
    with pytest.raises(ValueError, match=r"public_problems: .* has manifest hash .*, the job says 0000"):
        build_trainer(job, "site-1", configs["site-1"], "0000", Ranks())


def test_a_malformed_problem_file_names_line_and_field(site_files, job):
    manifest, configs = site_files({"site-1": ("A",)})
    path = configs["site-1"].private_problems
    lines = path.read_text().splitlines()
    record = json.loads(lines[2])
    del record["answer"]
    path.write_text("\n".join([*lines[:2], json.dumps(record), *lines[3:]]))
    with pytest.raises(ProblemFileError, match=r"site-1.jsonl, line 3, field answer: missing"):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())


def test_an_empty_public_set(site_files, job):
    manifest, configs = site_files({"site-1": ("A",)})
    configs["site-1"].public_problems.write_text("")
    with pytest.raises(ProblemFileError, match=r"public.jsonl: holds no problem"):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())


@pytest.mark.parametrize("stage", [3, "two"])
def test_a_deepspeed_stage_that_is_not_supported(site_files, job, stage):
    manifest, configs = site_files({"site-1": ("A",)}, stage=stage)
    with pytest.raises(ValueError, match=f"zero_optimization.stage {stage} is not supported; use 0, 1 or 2"):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())


def test_lora_targets_that_match_nothing(site_files, small_job):
    manifest, configs = site_files({"site-1": ("A",)})
    job = small_job(lora__target_modules=["no_such_proj"])
    with pytest.raises(ValueError, match=r"no linear layer of .* is called 'no_such_proj'; it has down_proj"):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(site_files, job):
    manifest, configs = site_files({"site-1": ("A",)}, device="cuda")
    with pytest.raises(ValueError, match="device: cuda is asked for, but torch finds no GPU; use cpu or auto"):
        build_trainer(job, "site-1", configs["site-1"], manifest, Ranks())
