"""Create, save and reload a run's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedrlvr.config import JobConfig
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import MAY_CHANGE, run_identity
from fedrlvr.settings_file import SettingsError, apply_override, validate_settings
from fedrlvr.site_config import SiteConfig

RUN_FILE = "run.json"


@dataclass(frozen=True)
class PreparedRun:
    """What a run needs. `sites` are those whose files were written here. `base_model` is what the adapter that is taken
    home will call its base: a directory, or in production perhaps only a name. `environment` is where the run takes
    place; `place` is the proof of concept's folder there, or the lead's startup kit."""

    folder: Path
    spec: RunSpec
    base_model: str
    sites: dict[str, SiteConfig] = field(default_factory=dict)
    environment: str = "sim"
    place: str = ""

    @property
    def job(self) -> JobConfig:
        return self.spec.job

    def save(self) -> None:
        """Write down what `load_run` needs to go on with this run, should it die."""
        values = {name: value for name, value in vars(self).items() if name not in ("folder", "spec", "sites")}
        values["spec"] = self.spec.model_dump(mode="json")
        values["sites"] = {name: config.model_dump(mode="json") for name, config in self.sites.items()}
        (self.folder / RUN_FILE).write_text(json.dumps(values, indent=2) + "\n")


def load_run(folder: Path, overrides: Sequence[str] = ()) -> PreparedRun:
    """The run whose folder this is, to go on with, with some of its job's settings changed.

    Raises:
        SettingsError: no folder of a run; an override of what may not change while a run lasts.
    """
    path = folder / RUN_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        spec = RunSpec.model_validate(values.pop("spec") | {"resume": True})
        sites = {name: SiteConfig.model_validate(config) for name, config in values.pop("sites").items()}
        prepared = PreparedRun(folder.resolve(), spec, sites=sites, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"--resume-from {folder}: is no run's folder, such as workspace/demo-pubswap-seed0, with a {RUN_FILE} that "
            f"says what ran ({error})"
        ) from None
    changed = spec.job.model_dump(mode="json")
    for text in overrides:
        apply_override(changed, text)
    job = validate_settings(JobConfig, changed, str(path))
    if run_identity(job, spec.public_sha256) != run_identity(spec.job, spec.public_sha256):
        raise SettingsError(
            "--set: of a run that goes on, only evaluation.* and federation."
            f"{{{','.join(sorted(MAY_CHANGE))}}} may change; start a new run for anything else"
        )
    return replace(prepared, spec=spec.model_copy(update={"job": job}))


@contextmanager
def fresh_folder(workspace: Path, experiment: ExperimentConfig) -> Iterator[Path]:
    """A new folder named after the experiment, with `-2`, `-3`, ... if need be: an earlier run's results are never
    overwritten. If the run cannot begin, the folder is removed."""
    path = workspace / f"{experiment.name}-{experiment.method}-seed{experiment.seed}"
    number, folder = 1, path
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
            folder = path.with_name(f"{path.name}-{number}")
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise
