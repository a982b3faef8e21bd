"""Create, save and reload a run's folder."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from pydantic import Field

from fedrlvr.config import JobConfig, Settings
from fedrlvr.json_text import from_json
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import MAY_CHANGE, Environment, run_identity
from fedrlvr.settings_file import SettingsError, apply_override, validate_settings
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.doing import doing_in

RUN_FILE = "run.json"
DRY_RUN = "It shows that everything works, not what training is worth."  # said of a run with --tiny
Say = Callable[[str], None]  # shows a line to the user


class PreparedRun(Settings):
    """What a run needs."""

    folder: Path
    spec: RunSpec
    base_model: str  # where the base model is: a directory, or in production perhaps only its name
    license: str = "unknown"  # of the adapter, for its model card
    start_from: Path | None = None  # the PEFT directory of the run's first adapter, in production at the server
    sites: dict[str, SiteConfig] = Field({})  # those whose files were written here
    environment: Environment = "sim"
    track: str | None = None  # FLARE's tracker that the server hands all numbers to
    dry_run: bool = False  # began with --tiny
    place: str = ""  # the folder of the proof of concept, or the lead's startup kit in production

    def workers(self) -> dict[str, str]:
        """What each site's worker does now, where its files are on this machine."""
        told = {name: doing_in(site.state_dir, self.spec.run) for name, site in self.sites.items()}
        return {name: doing for name, doing in told.items() if doing}

    def save(self) -> None:
        """Write what `load_run` needs to resume the run."""
        (self.folder / RUN_FILE).write_text(self.model_dump_json(indent=2, exclude={"folder"}) + "\n")


def read_run(folder: Path) -> PreparedRun:
    """What this folder's run was begun with. Raises SettingsError."""
    path = folder / RUN_FILE
    if not path.is_file():
        what = f"holds no {RUN_FILE}" if folder.is_dir() else "no such folder"
        raise SettingsError(f"{folder}: {what}; expected that of a run, such as workspace/demo-pubswap-seed0")
    try:
        values = from_json(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        return validate_settings(PreparedRun, values | {"folder": folder.resolve()}, RUN_FILE)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: does not say what ran ({error})") from None


def load_run(folder: Path, overrides: Sequence[str] = ()) -> PreparedRun:
    """The run in this folder, to be resumed with some of its job's settings changed. Raises SettingsError, also for a
    setting that may not change during a run."""
    path = folder / RUN_FILE
    try:
        prepared = read_run(folder)
    except SettingsError as error:
        raise SettingsError(f"--resume-from {error}") from None
    made = {config.state_dir.parent.parent for config in prepared.sites.values()}
    if prepared.environment in ("local", "sim") and made - {prepared.folder}:
        raise SettingsError(
            f"--resume-from {folder}: the run was made as {made.pop()}, where its sites' files are; resume it there"
        )
    spec = prepared.spec
    changed = spec.job.model_dump(mode="json")
    for text in overrides:
        apply_override(changed, text)
    job = validate_settings(JobConfig, changed, str(path))
    if run_identity(job, spec.public_sha256) != run_identity(spec.job, spec.public_sha256):
        raise SettingsError(
            "--set: of a run that is resumed, only evaluation.* and federation."
            f"{{{','.join(sorted(MAY_CHANGE))}}} may change; start a new run for anything else"
        )
    return prepared.model_copy(update={"spec": spec.model_copy(update={"job": job, "resume": True})})


@contextmanager
def fresh_folder(workspace: Path, experiment: ExperimentConfig) -> Iterator[Path]:
    """A new folder named after the experiment, with `-2`, `-3`, ... if it exists: an earlier run's results are never
    overwritten. If the run cannot be prepared, the folder is removed."""
    name = f"{experiment.name}-{experiment.method}-seed{experiment.seed}"
    for number in count(1):
        folder = workspace / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise
