"""What is shipped for people to edit: every preset gives a valid job, every DeepSpeed file is accepted as it is."""

import json
from pathlib import Path

import pytest
import yaml

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import read_problems
from fedrlvr.launch.experiment import ExperimentConfig, load_experiment
from fedrlvr.launch.simulated import synthetic_task
from fedrlvr.learning.engine import JOB_OWNED, read_deepspeed_config, zero_stage
from fedrlvr.tasks import task_named
from fedrlvr.tiny.generated import write_generated

APP_CONFIGS = Path(__file__).resolve().parents[1] / "app_configs"
PRESETS = sorted(APP_CONFIGS.glob("*.yaml"))
DEEPSPEED = sorted((APP_CONFIGS / "deepspeed").glob("*.json"))


def shipped(path: Path) -> list[ExperimentConfig]:
    """A preset as it is and, where it has that part, as a dry run."""
    tiny = "tiny" in yaml.safe_load(path.read_text())
    return [load_experiment(path), *([load_experiment(path, tiny=True)] if tiny else [])]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_shipped_preset_gives_a_valid_job_for_every_method(path, method):
    for experiment in shipped(path):
        sites = list(experiment.data.sites) if experiment.data else ["north", "south"]
        job = experiment.model_copy(update={"method": method}).job(sites)
        assert JobConfig.model_validate_json(job.model_dump_json()) == job  # as it travels to the sites
        assert job.method == method
        assert job.federation.min_sites <= len(sites)
        assert experiment.deepspeed.is_file()


@pytest.mark.parametrize("path", [path for path in PRESETS if shipped(path)[-1].data], ids=lambda path: path.name)
def test_every_shipped_presets_problems_can_be_drawn_and_are_its_tasks(path, tmp_path):
    experiment = shipped(path)[-1]
    task = task_named(experiment.task)
    write_generated(experiment.data, synthetic_task(task), experiment.seed, tmp_path)
    for site in experiment.data.sites:
        assert len(read_problems(tmp_path / f"{site}.jsonl", task)) == experiment.data.private_per_site


def test_a_preset_for_a_real_model_makes_neither_model_nor_problems():
    for name in ("math-qwen3-1.7b", "math-qwen2.5-3b-instruct", "medical-llama-3.2-3b-instruct"):
        experiment, dry = shipped(APP_CONFIGS / f"{name}.yaml")
        assert (experiment.name, experiment.data, experiment.base_model) == (name, None, None)
        assert experiment.site.dtype == "bfloat16"
        assert dry.data.public < 20
        assert dry.site.dtype == "float32"
        assert dry.lora.target_modules == experiment.lora.target_modules == "all-linear"
        assert dry.model == experiment.model


def test_presets_and_deepspeed_files_are_there():
    assert PRESETS
    assert DEEPSPEED


@pytest.mark.parametrize("path", DEEPSPEED, ids=lambda path: path.name)
def test_every_shipped_deepspeed_file_is_accepted_as_it_is(path):
    assert read_deepspeed_config(path) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((json.dumps({key: {}}), f"{key} belongs to the job") for key in JOB_OWNED),
        ('{"zero_optimization": {"stage": 4}}', "there is no zero_optimization.stage 4"),
        ('{"zero_optimization": {"stage": "2"}}', "there is no zero_optimization.stage 2"),
        ('{\n"zero_optimization": {,}}', "not valid JSON .*line 2"),
        ("", "not valid JSON"),
        ("[]", "expected|object"),
        ('{"zero_optimization": 2}', "zero_optimization"),
    ],
)
def test_a_deepspeed_file_that_oversteps_is_refused_by_name(tmp_path, text, reason):
    path = tmp_path / "zero.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"zero\.json: .*({reason})"):
        read_deepspeed_config(path)


def test_settings_for_other_numbers_of_gpus_fit_the_preset():
    """As `app_configs/README.md` has them."""
    path = next(path for path in PRESETS if path.stem == "math-qwen3-1.7b")
    overrides = ["site.generation_batch_size=32", "site.processes=2", "site.gpus=[2, 3]"]
    experiment = load_experiment(path, [*overrides, "deepspeed=zero3"])
    site = experiment.site
    assert (site.generation_batch_size, site.processes, site.gpus) == (32, 2, (2, 3))
    assert zero_stage(read_deepspeed_config(experiment.deepspeed)) == 3
