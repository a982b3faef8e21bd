"""Copy a folder that `fedrlvr prepare` made for a simulation: all problems, or a few of each file."""

from pathlib import Path

from fedrlvr.data.manifest import HELDOUT, SHARED_SETS, check_manifest
from fedrlvr.data.problems import ProblemFileError, check_named, read_problems, write_problems
from fedrlvr.tasks import Task
from fedrlvr.tiny.generated import GeneratedData


def copy_prepared(source: Path, task: Task, folder: Path, pooled: bool, limit: GeneratedData | None) -> list[str]:
    """Copy the site, public and test files of `source` to `folder`, with `limit` only so many problems of each. With
    `pooled`, one site called `pooled` has the private problems of all sites. Returns the sites' names before pooling.
    Raises ProblemFileError, also where there is no site's file."""
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
    return sites


def sites_in(source: Path) -> list[str]:
    """The names of the sites whose problems are in `source`. Raises ProblemFileError if there are none, or one is no
    name."""
    names = sorted(path.name.removesuffix(".jsonl") for path in source.glob("*.jsonl"))
    sites = [name for name in names if name not in SHARED_SETS and not name.endswith(HELDOUT)]
    if not sites:
        raise ProblemFileError(f"{source}: holds no site's problems (site-1.jsonl, ...)")
    for name in sites:
        check_named(name, f"{source}, file {name!r}")
    return sites


def _enough(name: str, limit: GeneratedData) -> int:
    if name in SHARED_SETS:
        labels = {label for some in limit.sites.values() for label in some}
        return limit.public if name == "public" else limit.test_per_label * len(labels)
    return limit.heldout_per_site if name.endswith(HELDOUT) else limit.private_per_site
