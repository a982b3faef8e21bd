"""`fedrlvr doctor` as it is called: a good site passes, each thing that is wrong is reported and ends with code 1."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml

from fedrlvr.cli import main
from fedrlvr.commands import check_up
from fedrlvr.shipped import template
from fedrlvr.site.checks import Finding
from fedrlvr.site.trial import TrialFailed

PRESET = {"task": "protocol", "model": "tiny"}


@pytest.fixture
def site(site_files, tmp_path, monkeypatch):
    """site(changes, preset) -> (exit code, {check: (status, what was said)}); `site.file` is the site's file. Paths
    in it are relative, as a site would write them."""
    _, configs = site_files({"site-1": ("A", "B")})
    values = configs["site-1"].model_dump(mode="json")
    values = {k: v.removeprefix(f"{tmp_path}/") if isinstance(v, str) else v for k, v in values.items()}

    def examine(changes: dict | None = None, preset: dict | None = None, *flags: str):
        capsys = examine.capsys
        examine.file.write_text(yaml.safe_dump(values | (changes or {})))
        (tmp_path / "preset.yaml").write_text(yaml.safe_dump(PRESET | (preset or {})))
        given = ["--site-config", str(examine.file), "--config", str(tmp_path / "preset.yaml"), *flags]
        code = main(["doctor", *given])
        said = capsys.readouterr()
        assert said.err == ""
        lines = said.out.splitlines()
        examine.shown = [line[20:] for line in lines if line.startswith(" " * 20)]  # below a finding
        findings = {line[8:20].strip(): (line[:8].strip(), line[20:]) for line in lines[:-1] if line[:8].strip()}
        failed, warned = (sum(one == status for one, _ in findings.values()) for status in ("failed", "warning"))
        but = f", but for {warned} warning{'s' if warned > 1 else ''}" if warned else ""
        assert lines[-1] == (
            f"{failed} to fix before this site can take part" if failed else f"this site is ready{but}"
        )
        return code, findings

    examine.file = tmp_path / "fedrlvr.yaml"
    examine.config = configs["site-1"]
    return examine


@pytest.fixture(autouse=True)
def shown(request, capsys):
    if "site" in request.fixturenames:
        request.getfixturevalue("site").capsys = capsys


@pytest.fixture
def rehearsed(monkeypatch):
    """Rehearsals that succeed at once, counted."""
    calls = []
    monkeypatch.setattr(
        check_up, "rehearse", lambda *asked: calls.append(asked) or [Finding("rehearsal", "ok", "done")]
    )
    return calls


def statuses(findings: dict) -> dict[str, str]:
    return {about: status for about, (status, _) in findings.items()}


@pytest.fixture
def nothing_left(site, monkeypatch):
    """No process and no file of a rehearsal is there afterwards."""
    folder = tempfile.mkdtemp(prefix="t")  # short: a socket's path has to fit into some hundred characters
    monkeypatch.setattr(tempfile, "tempdir", folder)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert list(Path(folder).iterdir()) == []
    assert not site.config.state_dir.exists()
    Path(folder).rmdir()


@pytest.mark.slow
def test_a_good_site_is_ready_and_is_left_as_it_was(site, nothing_left):
    preset = {"lora": {"target_modules": ["q_proj"], "r": 2}, "grpo": {"max_completion_length": 20}}
    code, findings = site(preset=preset)
    assert code == 0
    assert findings["extras"] == ("ok", "none is needed")
    assert findings["length"][1] == "prompts of at most 492 tokens, completions of 20"
    assert re.fullmatch(r"\d+ of 10 right, \d+ with an answer, \d cut off, 0 not verified", findings["completions"][1])
    told = [line for line in site.shown if line.startswith("protocol-")]
    assert len(told) == 10
    assert all(re.match(r"protocol-\S+: (exact|wrong|no answer)(, cut off)?: \S", line) for line in told)
    assert set(statuses(findings).values()) == {"ok", "warning"}
    assert findings["manifest"][0] == "warning"
    status, said = findings["rehearsal"]
    assert status == "ok"
    assert said.startswith("10 completions of at most 20 tokens and a step at learning rate 0 in ")
    # Two layers of rank 2: A is 2 x 64, B is 128 x 2.
    assert said.endswith(", 768 LoRA parameters")


@pytest.mark.slow
def test_a_launcher_of_the_sites_own_that_listens_to_other_machines_is_a_warning(site, nothing_left):
    launch = "torchrun --standalone --nproc-per-node={processes} -m {worker}"
    code, findings = site({"worker": {"launch": launch}, "processes": 2})
    status, said = findings["rehearsal"]
    assert (code, status) == (0, "warning")
    assert "; other machines can connect to the worker: :: port " in said


@pytest.mark.slow
def test_what_only_the_worker_finds_fails_the_rehearsal_with_its_reason(site, nothing_left):
    code, findings = site(preset={"lora": {"target_modules": ["no_such_proj"]}})
    assert code == 1
    status, said = findings["rehearsal"]
    assert status == "failed"
    assert "is called 'no_such_proj'; it has down_proj" in said
    assert "failed" not in statuses({k: v for k, v in findings.items() if k != "rehearsal"}).values()


def test_the_preset_says_what_is_rehearsed(site, rehearsed, recwarn):
    assert site(preset={"lora": {"r": 3}, "prompt": {"system_prompt": "think"}})[0] == 0
    assert not any(issubclass(warning.category, FutureWarning) for warning in recwarn), "it would be on the screen"
    ((spec, config),) = rehearsed
    job = spec.job
    assert (job.lora.r, job.prompt.system_prompt, job.task) == (3, "think", "protocol")
    assert config.private_problems == site.config.private_problems  # relative paths are taken from the file's folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privat_problems": "x"}, "privat_problems: unknown setting; did you mean private_problems?"),
        ({"processes": 0}, "processes: "),
        ({"public_problems": "data/nowhere.jsonl"}, "public_problems: no such file: "),
        ({"deepspeed_config": "nowhere.json"}, "deepspeed_config: no such file: "),
        ({"model_path": "nowhere"}, "model_path: no config.json in "),
    ],
)
def test_a_mistake_in_the_site_file_ends_the_examination(site, rehearsed, changes, said):
    code, findings = site(changes)
    assert code == 1
    status, found = findings["site file"]
    assert status == "failed"
    assert said in found
    assert set(findings) - {"site file"} <= {"python", "packages"}
    assert rehearsed == []


def test_pickle_weights_are_refused_by_name(site, rehearsed, tmp_path):
    model = shutil.copytree(site.config.model_path, tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    code, findings = site({"model_path": str(model)})
    assert code == 1
    assert "only pickle weights (pytorch_model.bin), which can run code when loaded" in findings["site file"][1]


@pytest.mark.parametrize(
    ("about", "name", "content", "said"),
    [
        (
            "deepspeed",
            "deepspeed_config",
            '{"zero_optimization": {"stage": 4}}',
            "there is no zero_optimization.stage 4",
        ),
        ("deepspeed", "deepspeed_config", '{"optimizer": {}}', "optimizer belongs to the job's settings"),
        ("deepspeed", "deepspeed_config", "{", "not valid JSON"),
        ("problems", "test_problems", "", "holds no problem"),
    ],
)
def test_an_unusable_file_is_reported_and_nothing_is_rehearsed(site, rehearsed, about, name, content, said):
    getattr(site.config, name).write_text(content)
    code, findings = site()
    assert code == 1
    assert findings[about][0] == "failed"
    assert said in findings[about][1]
    assert findings["rehearsal"] == ("warning", "not tried")
    assert rehearsed == []


def test_a_bad_gold_is_named_by_file_line_and_field_and_all_else_is_examined_too(site, rehearsed):
    path = site.config.private_problems
    lines = path.read_text().splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | {"answer": "xx"})
    path.write_text("\n".join(lines))
    site.config.deepspeed_config.write_text('{"zero_optimization": {"stage": 4}}')
    code, findings = site()
    assert code == 1
    assert findings["problems"][0] == findings["deepspeed"][0] == "failed"
    assert f"{path}, line 5, field answer: " in findings["problems"][1]


@pytest.mark.parametrize("text", ["{", ""])
def test_a_model_configuration_that_cannot_be_read_is_reported(site, rehearsed, tmp_path, text):
    model = shutil.copytree(site.config.model_path, tmp_path / "damaged")
    (model / "config.json").write_text(text)
    code, findings = site({"model_path": str(model)})
    assert code == 1
    assert "failed" in statuses(findings).values()
    assert rehearsed == []


def test_a_gpu_that_is_not_there_is_reported(site, rehearsed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, findings = site({"device": "cuda"})
    assert (code, findings["gpus"][0]) == (1, "failed")
    assert rehearsed == []


def test_no_worker_is_started_that_the_machine_does_not_hold(site, rehearsed, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    code, findings = site({"device": "cpu"})
    assert (code, findings["step memory"][0], findings["rehearsal"][0]) == (1, "failed", "warning")
    assert rehearsed == []


def test_completions_that_leave_no_position_for_a_prompt_fail(site, rehearsed):
    code, findings = site(preset={"grpo": {"max_completion_length": 512}})
    assert (code, findings["length"][0], findings["private"][0]) == (1, "failed", "ok")
    assert rehearsed == []


def test_a_preset_for_another_model_is_reported(site, rehearsed):
    code, findings = site(preset={"model": "large"})
    assert code == 1
    assert "the preset is for 'large', the site's file offers 'tiny'" in findings["problems"][1]


@pytest.mark.parametrize("flags", [("--tiny",), ("--set", "model=large")])
def test_a_presets_tiny_part_and_changed_settings_are_what_is_checked(site, rehearsed, flags):
    code, findings = site(None, {"tiny": {"model": "large"}}, *flags)
    assert (code, rehearsed) == (1, [])
    assert "the preset is for 'large', the site's file offers 'tiny'" in findings["problems"][1]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (template("sealed.yaml"), "this site requires privacy.mode: dp_grpo; the job has privacy.mode: none"),
        ("limits: {num_generations: 4}", "limits.num_generations is 4, the job asks for 8"),
        ("adapters: {min_problems: 17}", "adapters.min_problems is 17, and its private steps draw only 16"),
        ("limits: {num_generations: 8}", ""),
    ],
)
def test_a_job_that_the_sites_policy_refuses_is_told_with_the_reason(site, rehearsed, tmp_path, policy, said):
    (tmp_path / "policy.yaml").write_text(policy)
    for name in ("privacy.json", "resources.json", "authorization.json"):
        (tmp_path / name).write_text(template(name))
    federation = {"segments_per_round": 1, "local_steps": 4}
    grpo = {"num_generations": 8, "prompts_per_step": 4}
    code, findings = site({"policy": "policy.yaml"}, {"grpo": grpo, "federation": federation})
    status, reason = findings["admission"]
    assert (code, status) == ((1, "failed") if said else (0, "ok"))
    assert said in reason
    remedy = "this site refuses the job: change the job's settings or, if it may do this here, "
    assert (f"{remedy}{tmp_path / 'policy.yaml'}" in site.shown) == bool(said)
    assert len(rehearsed) == (not said)


def test_one_mistake_in_the_policy_is_one_thing_to_fix(site, rehearsed, tmp_path):
    (tmp_path / "policy.yaml").write_text("responses: {max_lenght: 3}")
    code, findings = site({"policy": "policy.yaml"})
    assert (code, [about for about, (status, _) in findings.items() if status == "failed"]) == (1, ["privacy"])
    assert "did you mean responses.max_length?" in findings["privacy"][1]
    assert findings["private"][0] == "ok"


def test_a_rehearsal_that_fails_is_reported(site, monkeypatch):
    def fail(*asked):
        raise TrialFailed("worker died (exit code -9); see log\n  the last words")

    monkeypatch.setattr(check_up, "rehearse", fail)
    code, findings = site()
    assert code == 1
    assert findings["rehearsal"] == ("failed", "worker died (exit code -9); see log")


def test_other_versions_than_tested_are_a_warning_only(site, rehearsed, tmp_path):
    (tmp_path / "constraints.txt").write_text("numpy==0.1\n")
    code, findings = site(None, None, "--constraints", str(tmp_path / "constraints.txt"))
    assert code == 0
    assert findings["tested pins"][0] == "warning"
    assert "(tested 0.1)" in findings["tested pins"][1]


def test_a_constraints_file_that_is_not_there_is_bad_input(tmp_path, capsys):
    flags = ["--site-config", str(tmp_path / "fedrlvr.yaml"), "--constraints", str(tmp_path / "nowhere.txt")]
    assert main(["doctor", *flags]) == 2
    assert capsys.readouterr().err == f"error: --constraints: no such file: {tmp_path / 'nowhere.txt'}\n"
