"""Each check of a site on its own: what is fine and what is not."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fedrlvr.data.manifest import SHARED_SETS, Manifest, SetManifest
from fedrlvr.data.problems import ProblemFileError, read_problems
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.site import checks
from fedrlvr.site.checks import (
    GIB,
    check_deepspeed,
    check_extras,
    check_length,
    check_machine,
    check_problems,
    check_versions,
)
from fedrlvr.tasks import task_named


@pytest.fixture
def config(site_files):
    _, configs = site_files({"site-1": ("A", "B")})
    return configs["site-1"]


def found(findings) -> dict:
    return {finding.about: finding for finding in findings}


def test_this_environment_is_as_required():
    findings = found(check_versions(None))
    assert {name: finding.status for name, finding in findings.items()} == {"python": "ok", "packages": "ok"}


def test_a_package_that_is_missing_or_too_old_is_named_with_what_is_needed(monkeypatch):
    others = {"numpy": "1.26.4", "peft": None}
    monkeypatch.setattr(checks, "installed", lambda name: others[name] if name in others else version(name))
    packages = found(check_versions(None))["packages"]
    assert packages.status == "failed"
    assert packages.text == "peft missing (needs >=0.21), numpy 1.26.4 (needs >=2)"
    pins = Path(__file__).parents[2] / "app_configs" / "constraints.txt"
    assert packages.remedy.startswith("pip install -c ")
    assert packages.remedy.endswith(" peft numpy")
    assert Path(packages.remedy.split()[3]).samefile(pins)


def test_where_this_package_runs_from_its_folder_its_requirements_are_not_known(monkeypatch):
    monkeypatch.setattr(checks, "installed", lambda name: None)
    packages = found(check_versions(None))["packages"]
    assert (packages.status, packages.text) == ("failed", "fedrlvr missing, which names the others")


def test_pins_other_than_tested_are_a_warning_that_names_them(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"# tested\nnumpy==0.1\npsutil=={version('psutil')}\nno-such-package==1.0\nrich>=1\n")
    tested = found(check_versions(pins))["tested pins"]
    assert (tested.status, tested.text) == ("warning", f"numpy {version('numpy')} (tested 0.1)")


@pytest.mark.parametrize("pin", ["2.13.0", "2.13.0+cpu"])
def test_a_local_build_is_the_release_that_was_tested(tmp_path, monkeypatch, pin):
    monkeypatch.setattr(checks, "installed", lambda name: "2.13.0+cpu" if name == "torch" else version(name))
    (tmp_path / "constraints.txt").write_text(f"torch=={pin}\n")
    assert found(check_versions(tmp_path / "constraints.txt"))["tested pins"].status == "ok"


@pytest.mark.parametrize(("device", "status"), [("cuda", "failed"), ("auto", "ok"), ("cpu", "ok")])
def test_a_missing_gpu_is_an_error_only_if_one_is_required(config, monkeypatch, device, status):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    gpus = found(check_machine(config.model_copy(update={"device": device})))["gpus"]
    assert (gpus.status, gpus.text) == (status, "none")


@pytest.mark.parametrize(
    ("gpus", "device", "status"), [([1], "auto", "ok"), ([2], "auto", "failed"), ([2], "cpu", "ok")]
)
def test_gpus_that_are_named_must_be_there(config, monkeypatch, gpus, device, status):
    card = SimpleNamespace(name="H100", total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    finding = found(check_machine(config.model_copy(update={"gpus": gpus, "device": device})))["gpus"]
    assert (finding.status, finding.text) == (status, "H100 80 GiB, H100 80 GiB")
    assert "name GPUs that are there" in finding.remedy


@pytest.mark.parametrize(("free", "status"), [(GIB - 1, "failed"), (GIB, "ok")])
def test_disk_space_is_checked_where_the_state_will_be(config, monkeypatch, free, status):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=free))
    assert found(check_machine(config))["disk"].status == status
    assert asked[0] in config.state_dir.parents  # it is not there yet
    assert not config.state_dir.exists()


def test_a_file_in_place_of_the_state_folder_is_an_error(config, tmp_path):
    (tmp_path / "taken").write_text("")
    disk = found(check_machine(config.model_copy(update={"state_dir": tmp_path / "taken"})))["disk"]
    assert disk.status == "failed"
    assert "cannot be written" in disk.text


def test_it_says_how_deepspeed_will_run(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_deepspeed(config).text == "ZeRO 0, one rank, gloo on CPU, nothing is compiled, float32"
    config.deepspeed_config.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    two = config.model_copy(update={"processes": 2, "dtype": "bfloat16"})
    assert check_deepspeed(two).text == "ZeRO 2, 2 ranks under torchrun, gloo on CPU, nothing is compiled, bfloat16"


def test_the_sets_that_all_sites_share_are_compared_with_the_manifest(config, small_job, tmp_path):
    task = task_named("protocol")
    sets = {name: SetManifest.of(read_problems(getattr(config, f"{name}_problems"), task)) for name in SHARED_SETS}
    about = {"dataset": "d", "source": "s", "task": "protocol", "seed": 0, "counts": {}, "removed": {}, "versions": {}}
    path = tmp_path / "manifest.json"
    path.write_text(Manifest(**about, **sets).model_dump_json())
    agreed = found(check_problems(config, small_job(), path))["manifest"]
    assert (agreed.status, sets["test"].sha256[:16] in agreed.text) == ("ok", True)
    lines = config.test_problems.read_text().splitlines(keepends=True)
    config.test_problems.write_text("".join(lines[1:]))
    with pytest.raises(ProblemFileError, match=r"test.jsonl: record .* of the manifest is missing"):
        list(check_problems(config, small_job(), path))


def test_problem_files_are_counted_and_their_labels(config, small_job):
    findings = found(check_problems(config, small_job(), None))
    assert findings["private"].text == "16 protocol problems, 2 labels, golds verified"
    assert findings["heldout"].text == "4 protocol problems, 2 labels, golds verified"
    assert findings["test"].text == "16 protocol problems, 4 labels, golds verified"
    config.test_problems.write_text("")
    with pytest.raises(ProblemFileError, match=r"test.jsonl: holds no problem"):
        list(check_problems(config, small_job(), None))


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, "ok", "none is needed"),
        ({"attn_implementation": "flash_attention_2"}, "failed", "missing for attn_implementation: flash_attention_2"),
        ({"load_in_4bit": True}, "failed", "missing for load_in_4bit"),
    ],
)
def test_packages_that_only_some_sites_need(config, small_job, monkeypatch, changes, status, said):
    monkeypatch.setattr(checks, "find_spec", lambda module: None)
    extras = check_extras(config.model_copy(update=changes), small_job(), None)
    assert (extras.status, extras.text) == (status, said)


def test_what_a_policy_needs_is_looked_for(config, small_job, monkeypatch):
    policy = SitePolicy(responses={"presidio": {"model": "spacy"}})
    monkeypatch.setattr(checks, "find_spec", lambda module: module == "presidio_analyzer" or None)
    job = small_job(privacy__mode="dp_grpo")
    extras = check_extras(config, job, policy)
    assert (extras.status, extras.text) == ("failed", "missing for privacy.mode: dp_grpo")
    assert extras.remedy == "pip install dp-accounting"
    assert check_extras(config, small_job(), policy).text == "presidio_analyzer"


def test_a_completion_must_leave_a_position_for_the_prompt(config, small_job):
    """The model has 512."""
    least = check_length(config, small_job(grpo__max_completion_length=511))
    assert (least.status, least.text) == ("ok", "prompts of at most 1 tokens, completions of 511")
    none = check_length(config, small_job(grpo__max_completion_length=512))
    assert none.status == "failed"
    assert "grpo.max_completion_length is 512, which leaves no room for a prompt" in none.text
