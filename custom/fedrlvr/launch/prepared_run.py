"""A folder for a run that was there before by no other, what the run takes from it, and how it is found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedrlvr.config import JobConfig
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.run import RecipeInputs
from fedrlvr.run_identity import MAY_CHANGE, check_run, new_run, run_identity
from fedrlvr.settings_file import SettingsError, apply_override, validate_settings
from fedrlvr.site_config import SiteConfig

RUN_FILE = "run.json"


@dataclass(frozen=True)
class PreparedRun:
    """What a run needs. `sites` are those whose files were written here; `base_model` is what the adapter that is taken
    home will call its base: a directory, or in production perhaps only a name; `fingerprint` is of that directory, and
    None leaves it to the sites to agree. `environment` is where it runs, and `place` the proof of concept's folder
    there, or the lead's startup kit."""

    folder: Path
    job: JobConfig
    public_ids: list[str]
    manifest: str
    base_model: str
    fingerprint: str | None
    sites: dict[str, SiteConfig] = field(default_factory=dict)
    environment: str = "sim"
    place: str = ""
    run: str = field(default_factory=new_run)

    def inputs(self, resume: bool) -> RecipeInputs:
        return RecipeInputs(self.job, self.public_ids, self.manifest, self.run, resume, self.fingerprint)

    def save(self) -> None:
        """Write down what `load_run` needs to go on with this run, should it die."""
        values = {name: value for name, value in vars(self).items() if name not in ("folder", "job", "sites")}
        values["job"] = self.job.model_dump(mode="json")
        values["sites"] = {name: config.model_dump(mode="json") for name, config in self.sites.items()}
        (self.folder / RUN_FILE).write_text(json.dumps(values, indent=2) + "\n")


def load_run(folder: Path, overrides: Sequence[str] = ()) -> PreparedRun:
    """The run whose folder this is, with some of its job's settings changed.

    Raises:
        SettingsError: no folder of a run; an override of what may not change while a run lasts.
    """
    path = folder / RUN_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        job = JobConfig.model_validate(values.pop("job"))
        sites = {name: SiteConfig.model_validate(config) for name, config in values.pop("sites").items()}
        prepared = PreparedRun(folder.resolve(), job, sites=sites, **values)
        check_run(prepared.run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"--resume-from {folder}: is no run's folder, such as workspace/demo-pubswap-seed0, of which {RUN_FILE} "
            f"tells what ran ({error})"
        ) from None
    changed = prepared.job.model_dump(mode="json")
    for text in overrides:
        apply_override(changed, text)
    changed_job = validate_settings(JobConfig, changed, str(path))
    if run_identity(changed_job, prepared.manifest) != run_identity(job, prepared.manifest):
        raise SettingsError(
            "--set: of a run that goes on, only evaluation.* and federation."
            f"{{{','.join(sorted(MAY_CHANGE))}}} may change; start a new run for anything else"
        )
    return replace(prepared, job=changed_job)


@contextmanager
def fresh_folder(workspace: Path, experiment: ExperimentConfig) -> Iterator[Path]:
    """A new folder named after the experiment, `-2`, `-3`, ... if need be: an earlier run's results are never written
    over. It is gone again where the run cannot begin."""
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
