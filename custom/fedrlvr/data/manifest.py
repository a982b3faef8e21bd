"""The manifest of the sets that all sites share (public and test): a hash of each record, so that edits are found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from fedrlvr.config import Settings
from fedrlvr.data.problems import ProblemFileError, manifest_hash, problem_hash, problems_in
from fedrlvr.json_text import JsonError, from_json, shown
from fedrlvr.types import Problem

MANIFEST = "manifest.json"
SHARED_SETS = ("public", "test")
HELDOUT = ".heldout"  # ends the name of a site's held-out set
_EXPECTED = "expected it as `fedrlvr prepare` wrote it"
_REMEDY = "get the file again from where the manifest comes from"


class SetManifest(Settings):
    """`sha256` is the `manifest_hash` of the set in its order; `records` maps each id to the hash of its record."""

    sha256: str
    records: dict[str, str]

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> Self:
        return cls(sha256=manifest_hash(problems), records={p.id: problem_hash(p) for p in problems})


class Manifest(Settings):
    """How the sets were made. `source` is a hub id or a file's bare name, never a path; `counts` are problems by set,
    `removed` problems by reason."""

    dataset: str
    source: str
    task: str
    seed: int
    public: SetManifest
    test: SetManifest
    counts: dict[str, int]
    removed: dict[str, int]
    versions: dict[str, str]


def read_manifest(place: Path) -> Manifest:
    """The manifest at `place`, which is the file or its folder. Raises ProblemFileError."""
    path = place / MANIFEST if place.is_dir() else place
    try:
        return Manifest.model_validate(from_json(path.read_bytes()))
    except OSError as error:
        raise ProblemFileError(
            f"{path}: cannot be read ({error.strerror or error}); expected the folder of an earlier `fedrlvr prepare`"
        ) from None
    except JsonError as error:
        raise ProblemFileError(f"{path}: {error}; {_EXPECTED}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = shown(".".join(map(str, first["loc"]))) or "whole file"
        raise ProblemFileError(f"{path}, {key}: {first['msg']}; {_EXPECTED}") from None


def check_manifest(folder: Path) -> dict[str, list[Problem]]:
    """The public and the test set of `folder`, if they are what its manifest says. Raises ProblemFileError,
    which names the first record that was edited, added, removed or moved, by line and id."""
    manifest = read_manifest(folder)
    return {name: check_set(folder / f"{name}.jsonl", getattr(manifest, name)) for name in SHARED_SETS}


def check_set(path: Path, expected: SetManifest) -> list[Problem]:
    """The problems of `path`, if they are what a manifest expects. Raises as `check_manifest`."""
    problems = []
    missing = dict(expected.records)
    for where, problem in problems_in(path):
        if problem.id not in expected.records:
            raise ProblemFileError(f"{where}: record {problem.id} is not in the manifest; {_REMEDY}")
        if problem_hash(problem) != expected.records[problem.id]:
            raise ProblemFileError(f"{where}: record {problem.id} differs from the manifest; {_REMEDY}")
        if missing.pop(problem.id, None) is None:
            raise ProblemFileError(f"{where}: record {problem.id} is on an earlier line already; {_REMEDY}")
        problems.append(problem)
    if missing:
        raise ProblemFileError(f"{path}: record {next(iter(missing))} of the manifest is missing; {_REMEDY}")
    for problem, name in zip(problems, expected.records, strict=True):
        if problem.id != name:
            raise ProblemFileError(f"{path}: record {problem.id} is where the manifest has {name}; {_REMEDY}")
    if manifest_hash(problems) != expected.sha256:
        raise ProblemFileError(f"{path}: the manifest's own sha256 is not that of its records; {_REMEDY}")
    return problems
