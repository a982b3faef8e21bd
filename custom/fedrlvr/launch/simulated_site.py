"""What a simulated site would have of its own: problem files and a model directory, made or taken over."""

from __future__ import annotations

from pathlib import Path

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.prepared_problems import copy_prepared
from fedrlvr.settings_file import SettingsError
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import SYNTHETIC, TASKS, Task
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.tiny.base_model import Progress, base_model, shrunk_model
from fedrlvr.tiny.generated import write_generated


def synthetic_task(task: Task) -> GeneratedTask:
    """The task that makes problems for a dry run of `task`: often itself."""
    synthetic = TASKS[SYNTHETIC.get(task.name, task.name)]
    if not isinstance(synthetic, GeneratedTask):
        raise SettingsError(f"task: {task.name} makes no problems of its own; give --data")
    return synthetic


def site_problems(
    experiment: ExperimentConfig, task: Task, source: Path | None, tiny: bool, folder: Path
) -> tuple[list[str], str]:
    """Write every site's problem files under `folder`: from the prepared folder `source` (with `tiny` a few of each),
    or made. Returns the sites' names and the public set's manifest hash.

    Raises:
        SettingsError: no source, and the preset makes no problems.
        ProblemFileError, ManifestError: a source that cannot be used.
    """
    pooled = METHODS[experiment.method].pooled_data
    if source is not None:
        return copy_prepared(source, task, folder, pooled, experiment.data if tiny else None)
    if experiment.data is None:
        raise SettingsError(
            f"preset {experiment.name} is for real problems: give --data with a folder that `fedrlvr prepare` made, "
            "or --tiny for a dry run on generated ones"
        )
    manifest = write_generated(experiment.data, synthetic_task(task), experiment.seed, folder, pooled)
    return list(experiment.data.sites), manifest


def site_model(
    experiment: ExperimentConfig,
    task: Task,
    source: Path | None,
    tiny: bool,
    models: Path,
    rebuild: bool,
    progress: Progress,
) -> Path:
    """The base model's directory: `source`, with `tiny` a small random one of its kind, or one made under `models`.

    Raises:
        SettingsError: no source, and the preset makes no model.
        FileNotFoundError: `source` is no model directory with safetensors weights.
    """
    if source is not None:
        LocalModel(model_path=source).check_model()
        return shrunk_model(source, experiment.base_model, models) if tiny and experiment.base_model else source
    if experiment.base_model is None:
        raise SettingsError(
            f"preset {experiment.name} is for {experiment.model}: give --model with its directory, "
            "or --tiny for a dry run with a small one of its kind"
        )
    return base_model(task, synthetic_task(task), experiment.base_model, models, rebuild, progress)


def site_config(
    name: str, experiment: ExperimentConfig, data: Path, model_path: Path, deepspeed: Path, state: Path
) -> SiteConfig:
    """The file that a simulated site would have written itself."""
    heldout = data / f"{name}.heldout.jsonl"
    return SiteConfig(
        **dict(experiment.site),
        model=experiment.model,
        model_path=model_path,
        private_problems=data / f"{name}.jsonl",
        heldout_problems=heldout if heldout.exists() else None,
        public_problems=data / "public.jsonl",
        test_problems=data / "test.jsonl",
        deepspeed_config=deepspeed,
        state_dir=state,
    )
