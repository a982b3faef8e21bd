"""A preset: the job, and what a simulation of it needs in addition: problems, a model, the machine."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig, LoraSettings
from fedrlvr.data.problems import manifest_hash, read_measured, read_problems, task_in
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import SettingsError, apply_override, read_yaml, validate_settings
from fedrlvr.shipped import shipped
from fedrlvr.site_config import Hardware, SiteConfig
from fedrlvr.tasks import own_package, task_named
from fedrlvr.tiny.base_model import BaseModelSettings
from fedrlvr.tiny.generated import GeneratedData


class ExperimentConfig(JobConfig):
    """One YAML file in `app_configs/`. Relative paths are taken from the folder of that file.

    `data`, `base_model`, `site`, `deepspeed` and `policy` are for simulated sites, `start_from` is for the server, and
    `license` for the lead; only the rest is sent to the sites.
    A preset may have a part `tiny`, whose settings replace the others with `--tiny`.
    """

    data: GeneratedData | None = None
    base_model: BaseModelSettings | None = None
    site: Hardware = Hardware(threads=1)
    deepspeed: Path = Field(
        Path("zero0"), description="The DeepSpeed file of each simulated site: a path, `zero0`, `zero2` or `zero3`."
    )
    start_from: Path | None = Field(
        None,
        description="The first adapter: a PEFT directory, with `--env prod` at the server; null: one without effect.",
    )
    license: str = Field(
        "unknown",
        pattern="^[a-z0-9][a-z0-9.+-]*$",
        max_length=60,
        description="Of the adapter, for its model card: a hub's name, such as `apache-2.0`; unknown: none was chosen.",
    )
    policy: Path | None = Field(
        None,
        description="Each simulated site's privacy policy: a path, `open`, `clinical` or `sealed`; null: no filter.",
    )

    @field_validator("deepspeed", "policy", mode="before")
    @classmethod
    def _one_of_ours(cls, value: object, info: ValidationInfo) -> object:
        return shipped(info.field_name).get(str(value), value)

    def as_job(self, **changes) -> JobConfig:
        """The part that is sent to the sites."""
        return JobConfig(**{name: getattr(self, name) for name in JobConfig.model_fields} | changes)

    def job(self, sites: Sequence[str]) -> JobConfig:
        """The job for `sites`. `centralised` has one site, which samples as much in each step as all together would.
        Raises SettingsError if there are fewer sites than `federation.min_sites`."""
        if METHODS[self.method].pooled_data:
            prompts = self.grpo.prompts_per_step * len(sites)
            return self.as_job(
                grpo=self.grpo.model_copy(update={"prompts_per_step": prompts}),
                federation=self.federation.model_copy(update={"min_sites": 1}),
            )
        self.federation.check_sites(len(sites))
        return self.as_job()


def load_experiment(path: Path, overrides: Iterable[str] = (), tiny: bool = False, **fixed) -> ExperimentConfig:
    """Read a preset. The settings of its `tiny` part (with `tiny`), of `overrides` and of `fixed` replace those before.
    Raises SettingsError, also if there is no `tiny` part."""
    values = read_yaml(path)
    small = values.pop("tiny", None)
    if tiny:
        if not isinstance(small, dict):
            raise SettingsError(f"{path}: has no part called tiny, which --tiny asks for")
        values = _merged(values, small)
    for text in overrides:
        apply_override(values, text)
    values |= {key: value for key, value in fixed.items() if value is not None}
    where = f"{path} with --set" if overrides else str(path)
    return validate_settings(ExperimentConfig, values, where, path.resolve().parent)


def site_job(config: SiteConfig, preset: Path | None, overrides: Sequence[str] = (), tiny: bool = False) -> JobConfig:
    """The preset's job. Without a preset, a job for the task that the public problems name, with LoRA on all linear
    layers. Raises SettingsError, also for a preset that is for another model than the one in the site's file."""
    if preset is None:
        name = task_in(config.public_problems)
        if name is None:
            raise SettingsError(f"{config.public_problems} does not say which task it is for; give --config")
        return JobConfig(task=name, model=config.model, lora=LoraSettings(target_modules="all-linear"))
    experiment = load_experiment(preset, overrides, tiny)
    if experiment.model != config.model:
        raise SettingsError(f"model: the preset is for {experiment.model!r}, the site's file offers {config.model!r}")
    return experiment.as_job()


def spec_on(public_problems: Path, test_problems: Path, job: JobConfig, base_model: str | None = None) -> RunSpec:
    """A run of this job on these public problems, measured on these test problems. Raises ProblemFileError."""
    task = task_named(job.task, job.verifier)
    public, test = read_problems(public_problems, task), read_measured(test_problems, task)
    return RunSpec(
        job=job,
        public_ids=[problem.id for problem in public],
        public_sha256=manifest_hash(public),
        test_labels=[problem.label for problem in test],
        test_sha256=manifest_hash(test),
        task_package=own_package(task),
        base_model=base_model,
    )


def _merged(values: dict, over: dict) -> dict:
    merged = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        merged[key] = _merged(values[key], value) if both else value
    return merged
