"""What a task is to the rest of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from fedrlvr.config import VerifierSettings
from fedrlvr.types import Problem, Prompt

TIMEOUT, MEMORY, DIED = "timeout", "memory", "died"
CUT_OFF = frozenset({TIMEOUT, MEMORY, DIED})  # reasons of a verification that was ended: they say nothing of the answer


class NotOfThisTask(ValueError):
    """A problem that a task cannot be about; `field` names what is wrong, and the reason quotes nothing of it."""

    def __init__(self, field: str, reason: str):
        super().__init__(reason)
        self.field = field


class Verdict(NamedTuple):
    """A completion's reward, and why: a short fixed text, never a part of the completion."""

    reward: float
    reason: str


@runtime_checkable
class Task(Protocol):
    """Problems with checkable answers."""

    name: str

    def prompt(self, problem: Problem) -> Prompt:
        """What the policy answers."""

    def verify(self, problem: Problem, completion: str) -> Verdict:
        """Reward 1.0 for a right answer, 0.0 otherwise. Completions are untrusted: whatever they hold merely scores
        0."""

    def gold_completion(self, problem: Problem) -> str:
        """A completion that states the problem's answer; `verify` must give it 1.0. Raises NotOfThisTask."""

    def variant(self, problem: Problem, number: int) -> Problem:
        """The problem as presentation `number` (0 <= number < VARIANTS) shows it, from the one in its file. Sites that
        meet a problem in different orders of its options guess it independently of each other."""
        return problem

    def configured(self, settings: VerifierSettings) -> Task:
        """The same task with other verifier settings."""
        return self


@runtime_checkable
class GeneratedTask(Task, Protocol):
    """A task that makes its own problems, and demonstrations from which a tiny base model can be warm-started."""

    labels: Sequence[str]
    alphabet: str

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        """A problem of one label; equal content gives an equal id."""

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A completion as the warm start's data has it: well-formed, and by design seldom right."""
