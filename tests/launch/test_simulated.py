"""Where a simulation's problems and model come from, and the errors if there is no source for them."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from fedrlvr.data.problems import ProblemFileError, read_problems
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.prepared_problems import sites_in
from fedrlvr.launch.simulated import site_config, site_model, site_problems, synthetic_task
from fedrlvr.settings_file import SettingsError
from fedrlvr.tasks import SYNTHETIC, TASKS
from fedrlvr.tasks.protocol import Protocol
from fedrlvr.tiny.base_model import BaseModelSettings
from fedrlvr.tiny.generated import GeneratedData

TASK = TASKS["protocol"]
DATA = GeneratedData(
    sites={"north": ("A",), "south": ("B", "C")}, private_per_site=6, heldout_per_site=2, public=4, test_per_label=2
)
MODEL = BaseModelSettings(hidden_size=16, num_layers=1, intermediate_size=16, num_heads=1, head_dim=8, steps=0)


def experiment(**changes) -> ExperimentConfig:
    return ExperimentConfig(**({"name": "real", "task": "protocol", "model": "Large-7B"} | changes))


def model_for(preset: ExperimentConfig, source: Path | None, tiny: bool, folder: Path) -> Path:
    args = Namespace(model=source, tiny=tiny, workspace=folder, rebuild_model=False)
    return site_model(preset, TASK, args, lambda line: None)


def problems_for(preset: ExperimentConfig, folder: Path) -> list[str]:
    return site_problems(preset, TASK, Namespace(data=None, tiny=False), folder)


def test_a_site_is_called_by_its_file_which_must_be_a_name(tmp_path):
    (tmp_path / "north [ward].jsonl").write_text("")
    assert sites_in(tmp_path) == ["north [ward]"]
    (tmp_path / "a\x1b[2J.jsonl").write_text("")
    with pytest.raises(ProblemFileError, match=r"file 'a.x1b.2J': character 2 is a control"):
        sites_in(tmp_path)


def test_a_preset_for_real_problems_says_which_flags_give_some(tmp_path):
    with pytest.raises(SettingsError) as caught:
        problems_for(experiment(), tmp_path)
    assert "preset real is for real problems: give --data with a folder" in str(caught.value)
    assert "or --tiny" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_preset_for_a_real_model_says_which_flags_give_one(tmp_path):
    with pytest.raises(SettingsError) as caught:
        model_for(experiment(data=DATA), None, False, tmp_path)
    assert "preset real is for Large-7B: give --model with its directory, or --tiny" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tiny", [False, True])
def test_a_model_directory_without_safetensors_is_refused(tmp_path, tiny):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="only pickle weights"):
        model_for(experiment(base_model=MODEL), tmp_path, tiny, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config.json in /nonexistent"):
        model_for(experiment(base_model=MODEL), Path("/nonexistent"), tiny, tmp_path)


def test_a_model_is_made_used_as_it_is_or_shrunk(tmp_path):
    made = model_for(experiment(base_model=MODEL), None, False, tmp_path)
    assert made.parent == tmp_path / "models"
    assert model_for(experiment(), made, False, tmp_path) == made
    assert model_for(experiment(base_model=MODEL), made, False, tmp_path) == made
    wider = MODEL.model_copy(update={"hidden_size": 24})
    small = model_for(experiment(base_model=wider), made, True, tmp_path)
    assert small == tmp_path / "models" / f"{made.name}-tiny"
    assert json.loads((small / "config.json").read_text())["hidden_size"] == 24
    assert json.loads((made / "config.json").read_text())["hidden_size"] == 16


def test_made_problems_are_each_sites_own(tmp_path):
    assert problems_for(experiment(data=DATA), tmp_path) == ["north", "south"]
    assert {problem.label for problem in read_problems(tmp_path / "north.jsonl", TASK)} == {"A"}
    assert len(read_problems(tmp_path / "south.jsonl", TASK)) == 6


def test_without_held_out_problems_a_site_has_none(tmp_path):
    data = tmp_path / "data"
    problems_for(experiment(data=DATA), data)
    (data / "south.heldout.jsonl").unlink()
    paths = (tmp_path, tmp_path / "model")
    north, south = (site_config(name, experiment(site={"threads": 2}), *paths) for name in ("north", "south"))
    assert north.heldout_problems == data / "north.heldout.jsonl"
    assert south.heldout_problems is None
    assert (south.private_problems, south.model, south.threads) == (data / "south.jsonl", "Large-7B", 2)


def test_a_task_that_makes_no_problems_uses_those_of_another_or_needs_data(monkeypatch):
    class Asked:
        """Has prompts and a verifier, but makes no problems."""

        name = "asked"

    monkeypatch.setitem(TASKS, "asked", Asked())
    with pytest.raises(SettingsError, match="asked makes no problems of its own; give --data"):
        synthetic_task(TASKS["asked"])
    monkeypatch.setitem(SYNTHETIC, "asked", "protocol")
    assert isinstance(synthetic_task(TASKS["asked"]), Protocol)
    assert synthetic_task(TASK) is TASK
