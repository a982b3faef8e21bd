"""Generated problems as a consortium would have them: a public part with its manifest, which every site and the lead
get, and what only one site each has."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedrlvr import __version__
from fedrlvr.data.manifest import MANIFEST, SHARED_SETS, Manifest, SetManifest
from fedrlvr.data.problems import read_problems
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.tiny.generated import GeneratedData, write_generated


def write_consortium(data: GeneratedData, task: GeneratedTask, seed: int, public: Path, private: Path) -> None:
    """Write public and test set with their manifest under `public`, every site's own under `private`.

    Raises ValueError as `write_generated`.
    """
    write_generated(data, task, seed, private)
    public.mkdir(parents=True)
    sets = {}
    for name in SHARED_SETS:
        shutil.move(private / f"{name}.jsonl", public)
        sets[name] = read_problems(public / f"{name}.jsonl", task)
    manifest = Manifest(
        dataset="generated",
        source="fedrlvr",
        task=task.name,
        seed=seed,
        public=SetManifest.of(sets["public"]),
        test=SetManifest.of(sets["test"]),
        counts={name: len(problems) for name, problems in sets.items()},
        removed={},
        versions={"fedrlvr": __version__},
    )
    (public / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
