"""Problem files of a generated task: a private and a held-out set for each site, and a public and a test set.

No problem is in two sets.
"""

from functools import partial
from pathlib import Path

from pydantic import Field, field_validator

from fedrlvr import __version__
from fedrlvr.config import Settings
from fedrlvr.data.manifest import HELDOUT, MANIFEST, SHARED_SETS, Manifest, SetManifest
from fedrlvr.data.problems import read_problems, write_problems
from fedrlvr.streams import stream
from fedrlvr.tasks.task import GeneratedTask, Task
from fedrlvr.types import Problem

MOST_MISSES = 10_000  # where one problem in a thousand is left, so many miss it once in 20,000 tries


class GeneratedData(Settings):
    """Generated problems, for runs without `--data`."""

    sites: dict[str, tuple[str, ...]] = Field(min_length=1, description="Each site's name: labels of its problems.")
    private_per_site: int = Field(256, ge=1, description="Private problems of each site.")
    heldout_per_site: int = Field(64, ge=1, description="Held-out problems of each site.")
    public: int = Field(32, ge=1, description="Problems in the public set, to which sites exchange answers.")
    test_per_label: int = Field(64, ge=1, description="Problems of each label in the test set.")

    @field_validator("sites")
    @classmethod
    def _names(cls, sites: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, labels in sites.items():
            if name in ("public", "test", "pooled"):
                raise ValueError(f"site name {name!r} is the name of a shared set; choose another")
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"site name {name!r}: use letters, digits, - and _")
            if not labels:
                raise ValueError(f"site {name!r} has no labels, so it would have no private problems")
        return sites


def write_generated(data: GeneratedData, task: GeneratedTask, seed: int, folder: Path, pooled: bool = False) -> None:
    """Write `public.jsonl`, `test.jsonl`, `<site>.jsonl` and `<site>.heldout.jsonl` under `folder`. With `pooled`, one
    site called `pooled` has the private problems of all sites.

    Raises ValueError for a label that the task does not have, and for more problems than it has.
    """
    for site, labels in data.sites.items():
        unknown = sorted(set(labels) - set(task.labels))
        if unknown:
            raise ValueError(
                f"data.sites.{site}: task {task.name} has no label {unknown[0]!r}; it has {', '.join(task.labels)}; "
                "change it in the preset, in its part data (with --tiny in its part tiny, if that has data)"
            )
    draw = partial(_drawn, task, seed, set())
    write_problems(folder / "public.jsonl", draw(data.public, task.labels, "public"))
    write_problems(folder / "test.jsonl", draw(data.test_per_label * len(task.labels), task.labels, "test"))
    private = {site: draw(data.private_per_site, labels, "private", site) for site, labels in data.sites.items()}
    heldout = {site: draw(data.heldout_per_site, labels, "heldout", site) for site, labels in data.sites.items()}
    if pooled:
        private, heldout = ({"pooled": [p for part in sets.values() for p in part]} for sets in (private, heldout))
    for site in private:
        write_problems(folder / f"{site}.jsonl", private[site])
        write_problems(folder / f"{site}{HELDOUT}.jsonl", heldout[site])


def write_manifest(folder: Path, task: Task, seed: int) -> None:
    """Of the public and the test set in `folder`, which hold problems of `task`: so they can be a consortium's."""
    sets = {name: read_problems(folder / f"{name}.jsonl", task) for name in SHARED_SETS}
    manifest = Manifest(
        dataset="generated",
        source="fedrlvr",
        task=task.name,
        seed=seed,
        **{name: SetManifest.of(problems) for name, problems in sets.items()},
        counts={name: len(problems) for name, problems in sets.items()},
        removed={},
        versions={"fedrlvr": __version__},
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")


def _drawn(task: GeneratedTask, seed: int, taken: set[str], count: int, labels, *purpose: str) -> list[Problem]:
    """New problems, whose ids go to those `taken`."""
    random = stream(seed, "problems", task.name, *purpose)
    problems: list[Problem] = []
    misses = 0  # in a row
    while len(problems) < count:
        problem = task.problem(labels[len(problems) % len(labels)], random)
        misses = misses + 1 if problem.id in taken else 0
        if misses == MOST_MISSES:
            purposes = "/".join(purpose)
            raise ValueError(f"task {task.name} has too few distinct problems for {count} more ({purposes})")
        if not misses:
            taken.add(problem.id)
            problems.append(problem)
    return problems
