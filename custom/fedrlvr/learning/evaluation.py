"""Measuring pass@k: sample problems, count right answers, and keep the counts so that a measurement can be resumed."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch

from fedrlvr.algorithms.scores import ProblemResult, Scores, scores_by_label
from fedrlvr.json_text import from_json
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.settings_file import SettingsError
from fedrlvr.streams import seed_of
from fedrlvr.tasks.task import UNANSWERED
from fedrlvr.types import Completion, Group, Problem


def evaluate(
    rollouts: Rollouts, problems: Sequence[Problem], samples: int, ks: Sequence[int], seed: int
) -> tuple[Scores, list[Group]]:
    """Sample each problem `samples` times; unbiased pass@k by label, for the `ks` that this many samples allow."""
    groups, _ = rollouts.groups(problems, samples, seed)
    return scores_by_label(map(result_of, groups), [k for k in ks if k <= samples]), groups


def measure(
    rollouts: Rollouts, problems: Sequence[Problem], samples: int, seed: int, rows: int
) -> Iterator[list[Group]]:
    """Sample and verify each problem `samples` times, and yield about `rows` completions at once.

    A problem's completions depend on `seed` and its id alone, so neither `rows` nor what was measured before changes
    them.
    """
    chunk = max(1, rows // samples)
    for start in range(0, len(problems), chunk):
        part = problems[start : start + chunk]
        yield rollouts.groups_from(part, _uniforms(part, samples, rollouts.max_completion_length, seed))[0]


class Lines:
    """A file of objects, one a line, that grows. What it begins with replaces it at once, or not at all."""

    def __init__(self, path: Path, begins_with: str):
        self.path, self._begins_with = path, begins_with

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(self._begins_with, encoding="utf-8")
        unfinished.rename(self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *exc) -> None:
        self._file.close()

    def append(self, records: Iterable[dict]) -> None:
        """Write them, and wait until they are on disk."""
        self._file.writelines(json.dumps(record) + "\n" for record in records)
        self._file.flush()
        os.fsync(self._file.fileno())


class ResultsFile(Lines):
    """Results by problem id, appended to a file whose first line holds the settings of the measurement."""

    def __init__(self, path: Path, settings: dict):
        """Raises SettingsError where the file holds results of another measurement, or something else."""
        self.settings = settings
        self.done: dict[str, ProblemResult] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # What follows the last line end was cut off in the middle; its problem is measured again.
        whole = "".join(line + "\n" for line in lines[:-1])
        super().__init__(path, whole or json.dumps(settings) + "\n")
        if whole:
            try:
                found, *rest = map(from_json, lines[:-1])
                differing = [name for name, value in settings.items() if found.get(name) != value]
                self.done = {result.id: result for result in (ProblemResult(**values) for values in rest)}
            except (ValueError, TypeError, AttributeError):
                raise SettingsError(f"{path}: no results of this version; choose another folder") from None
            if differing:
                raise SettingsError(
                    f"--out {path.parent}: holds a measurement with another {differing[0]}; choose another folder"
                )

    def write(self, results: list[ProblemResult]) -> None:
        self.append(map(asdict, results))
        self.done |= {result.id: result for result in results}


class CompletionsFile(Lines):
    """All completions of the problems that are `done`, and of those that are written."""

    def __init__(self, path: Path, done: Collection[str]):
        """Problems that are measured again after an interruption have their completions in the file once. Raises
        SettingsError where the file holds something else."""
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        try:
            kept = [line + "\n" for line in lines if from_json(line)["problem_id"] in done]
        except (ValueError, TypeError, KeyError):
            raise SettingsError(f"{path}: not a measurement's completions; choose another folder") from None
        super().__init__(path, "".join(kept))

    def write(self, groups: Sequence[Group]) -> None:
        self.append(completion_record(group.problem, made) for group in groups for made in group.completions)


def answer_shares(completions: Sequence[Completion]) -> dict[str, float]:
    """The shares that had no answer to judge, and that were cut off; 0 of none."""
    count = max(len(completions), 1)
    return {
        "unanswered": sum(c.reason in UNANSWERED for c in completions) / count,
        "cut_off": sum(c.truncated for c in completions) / count,
    }


def completion_record(problem: Problem, completion: Completion) -> dict:
    """What was written, and what the verifier said of it, as an object of a line."""
    return {
        "problem_id": problem.id,
        "text": completion.text,
        "reward": completion.reward,
        "reason": completion.reason,
        "truncated": completion.truncated,
    }


def _uniforms(problems: Sequence[Problem], samples: int, length: int, seed: int) -> torch.Tensor:
    """One number in [0, 1) for every token, problems x samples x length; each problem has its own stream."""
    streams = (torch.Generator().manual_seed(seed_of(seed, "evaluation", problem.id)) for problem in problems)
    return torch.stack([torch.rand(samples, length, generator=random) for random in streams])


def result_of(group: Group) -> ProblemResult:
    completions = group.completions
    return ProblemResult(
        id=group.problem.id,
        label=group.problem.label,
        samples=len(completions),
        correct=group.num_correct,
        truncated=sum(c.truncated for c in completions),
        unanswered=sum(c.reason in UNANSWERED for c in completions),
        timeouts=sum(not c.verified for c in completions),
        tokens=sum(len(c.token_ids) for c in completions) / len(completions),
        reward=sum(c.reward for c in completions) / len(completions),
    )
