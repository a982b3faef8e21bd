"""Which run a job belongs to. A run that died goes on as another job: same name, same settings in all that counts."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from pathlib import Path

from fedrlvr.config import JobConfig

_RUN = re.compile(r"[0-9a-f]{16}")
KEPT_RUNS = 3
# What a run may be resumed with another value of: how long it goes on, with whom, how it is measured.
MAY_CHANGE = {"rounds", "min_sites", "step_deadline", "max_update_norm"}


def new_run() -> str:
    """A name that no other run has; it becomes a folder's name at every participant."""
    return secrets.token_hex(8)


def check_run(run: object) -> str:
    """Raises ValueError where `run` is no run's name."""
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise ValueError(f"a run's name is 16 hexadecimal digits, not {str(run)[:80]!r}")
    return run


def run_identity(job: JobConfig, manifest: str, **more) -> str:
    """SHA-256 of everything that has to be the same before and after a run is resumed."""
    settings = job.model_dump(mode="json", exclude={"evaluation": True, "federation": MAY_CHANGE})
    return hashlib.sha256(json.dumps([settings, manifest, more], sort_keys=True).encode()).hexdigest()


def forget_old_runs(folder: Path) -> None:
    """Of the runs that have a folder each in `folder`, only the last to be written to stay."""
    runs = sorted((path for path in folder.iterdir() if _RUN.fullmatch(path.name)), key=lambda p: p.stat().st_mtime)
    for path in runs[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
