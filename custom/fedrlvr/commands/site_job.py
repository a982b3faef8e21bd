"""The job that a site tries something with: a preset's, or one of our own making."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedrlvr.config import JobConfig, LoraSettings
from fedrlvr.data.problems import manifest_hash, read_problems, task_in
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import SettingsError
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named


def site_job(config: SiteConfig, preset: Path | None, overrides: Sequence[str] = (), tiny: bool = False) -> JobConfig:
    """The preset's job; without one, the task that the public problems name, and LoRA on all linear layers.

    Raises:
        SettingsError: a preset that cannot be used, or is for another model than the site's file offers.
    """
    if preset is None:
        name = task_in(config.public_problems)
        if name is None:
            raise SettingsError(f"{config.public_problems} does not say which task it is for; give --config")
        return JobConfig(task=name, model=config.model, lora=LoraSettings(target_modules="all-linear"))
    experiment = load_experiment(preset, overrides, tiny)
    if experiment.model != config.model:
        raise SettingsError(f"model: the preset is for {experiment.model!r}, the site's file offers {config.model!r}")
    return JobConfig(**{name: getattr(experiment, name) for name in JobConfig.model_fields})


def site_spec(config: SiteConfig, job: JobConfig) -> RunSpec:
    """A run of this job on the site's own public problems. Raises ProblemFileError."""
    public = read_problems(config.public_problems, task_named(job.task, job.verifier))
    return RunSpec(job=job, public_ids=[problem.id for problem in public], public_sha256=manifest_hash(public))
