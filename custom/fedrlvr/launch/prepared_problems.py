"""A folder that `fedrlvr prepare` made, taken over for a simulation, whole or a few problems of each file."""

from __future__ import annotations

from pathlib import Path

from fedrlvr.data.manifest import check_manifest
from fedrlvr.data.problems import ProblemFileError, manifest_hash, read_problems, write_problems
from fedrlvr.tasks import Task
from fedrlvr.tiny.generated import GeneratedData

SHARED = ("public", "test")
HELDOUT = ".heldout"


def copy_prepared(
    source: Path, task: Task, folder: Path, pooled: bool, limit: GeneratedData | None
) -> tuple[list[str], str]:
    """Write the site, public and test files of `source` under `folder`; with `pooled` one site, `pooled`, has all
    private problems. `limit` says how many problems of each file are enough. Returns the sites' names before pooling,
    and the public set's manifest hash.

    Raises:
        ManifestError: public or test file are not those of the folder's manifest.
        ProblemFileError: a file that cannot be used, or no site file at all.
    """
    sites = sites_in(source)
    check_manifest(source)
    sets = {path.name.removesuffix(".jsonl"): read_problems(path, task) for path in sorted(source.glob("*.jsonl"))}
    if limit is not None:
        sets = {name: problems[: _enough(name, limit)] for name, problems in sets.items()}
    if pooled:
        for ending in ("", HELDOUT):
            parts = [sets.pop(site + ending) for site in sites if site + ending in sets]
            if parts:
                sets["pooled" + ending] = [problem for part in parts for problem in part]
    for name, problems in sets.items():
        write_problems(folder / f"{name}.jsonl", problems)
    return sites, manifest_hash(sets["public"])


def sites_in(source: Path) -> list[str]:
    """The names of the sites whose problems are there. Raises ProblemFileError where there are none."""
    names = sorted(path.name.removesuffix(".jsonl") for path in source.glob("*.jsonl"))
    sites = [name for name in names if name not in SHARED and not name.endswith(HELDOUT)]
    if not sites:
        raise ProblemFileError(f"{source}: holds no site's problems (site-1.jsonl, ...)")
    return sites


def _enough(name: str, limit: GeneratedData) -> int:
    if name in SHARED:
        labels = {label for some in limit.sites.values() for label in some}
        return limit.public if name == "public" else limit.test_per_label * len(labels)
    return limit.heldout_per_site if name.endswith(HELDOUT) else limit.private_per_site
