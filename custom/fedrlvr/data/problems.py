"""Problem files: JSON Lines with `id`, `prompt`, `answer` and optionally `label`.

Every error names file, line and field, and never quotes what stands there: errors reach the server, problems must not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from fedrlvr.tasks import Task
from fedrlvr.tasks.task import NotOfThisTask
from fedrlvr.types import Problem

FIELDS = {"id": True, "prompt": True, "answer": True, "label": False}  # name -> required


class ProblemFileError(ValueError):
    """A problem file that cannot be used."""


def read_problems(path: Path, task: Task) -> list[Problem]:
    """Read and check a problem file.

    Raises:
        ProblemFileError: unreadable or empty file, a line that is not a JSON object, a missing, unknown or non-text
        field,
            a repeated id, or a gold answer that the task's own verifier does not score 1.0.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON text may hold what splitlines() takes for line ends
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemFileError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    problems: dict[str, Problem] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = _problem(line, f"{path}, line {number}")
        if problem.id in problems:
            raise ProblemFileError(f"{path}, line {number}, field id: stands on an earlier line already")
        _check_gold(problem, task, f"{path}, line {number}")
        problems[problem.id] = problem
    if not problems:
        raise ProblemFileError(f"{path}: holds no problem; expected one JSON object a line with {', '.join(FIELDS)}")
    return list(problems.values())


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems), encoding="utf-8")


def manifest_hash(problems: Iterable[Problem]) -> str:
    """SHA-256 over the public problems in order: sites that disagree on it have different public sets."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(asdict(problem), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _problem(line: str, where: str) -> Problem:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProblemFileError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise ProblemFileError(f"{where}: JSON that cannot be read ({error})") from None
    if not isinstance(record, dict):
        raise ProblemFileError(f"{where}: expected a JSON object, found {type(record).__name__}")
    for name, required in FIELDS.items():
        if name not in record:
            if required:
                raise ProblemFileError(f"{where}, field {name}: missing")
        elif not isinstance(record[name], str):
            raise ProblemFileError(f"{where}, field {name}: expected text, found {type(record[name]).__name__}")
        elif required and not record[name].strip():
            raise ProblemFileError(f"{where}, field {name}: empty")
        elif not record[name].isascii() and not _is_unicode(record[name]):
            raise ProblemFileError(f"{where}, field {name}: holds half a surrogate pair, which is no text")
    unknown = sorted(set(record) - set(FIELDS))
    if unknown:
        raise ProblemFileError(f"{where}, field {unknown[0]}: unknown; known are {', '.join(FIELDS)}")
    return Problem(**record)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_gold(problem: Problem, task: Task, where: str) -> None:
    try:
        gold = task.gold_completion(problem)
    except NotOfThisTask as error:
        raise ProblemFileError(f"{where}, field {error.field}: not a {task.name} problem: {error}") from None
    if task.verify(problem, gold) != 1.0:
        raise ProblemFileError(f"{where}, field answer: the gold does not score 1.0 against itself")
