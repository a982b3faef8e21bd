"""A folder for a run that was there before by no other, and what the run takes from it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedrlvr.config import JobConfig
from fedrlvr.data.experiment import ExperimentConfig
from fedrlvr.site_config import SiteConfig


@dataclass(frozen=True)
class PreparedRun:
    """What a run needs. `sites` are those whose files were written here; `base_model` is what the adapter that is taken
    home will call its base: a directory, or in production perhaps only a name; `fingerprint` is of that directory, and
    None leaves it to the sites to agree."""

    folder: Path
    job: JobConfig
    public_ids: list[str]
    manifest: str
    base_model: str
    fingerprint: str | None
    sites: dict[str, SiteConfig] = field(default_factory=dict)


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
