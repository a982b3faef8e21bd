"""The interface of a task, for the rest of the package."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from fedrlvr.config import PromptSettings, VerifierSettings
from fedrlvr.types import Message, Problem, Prompt

TIMEOUT, MEMORY, DIED = "timeout", "memory", "died"
CUT_OFF = frozenset({TIMEOUT, MEMORY, DIED})  # reasons why a verification was ended; they do not judge the answer
NO_BOX, SEVERAL_BOXES, NO_ANSWER = "no box", "several boxes", "no answer"
UNANSWERED = frozenset({NO_BOX, SEVERAL_BOXES, NO_ANSWER})  # reasons why there is nothing to judge


class VerifierFault(RuntimeError):
    """A verifier cannot be used here: a fault of the installation, which must not become a reward."""


class NotOfThisTask(ValueError):
    """A problem that does not fit the task; `field` is the wrong field, and the reason does not quote it."""

    def __init__(self, field: str, reason: str):
        super().__init__(reason)
        self.field = field


class Incomparable(NotOfThisTask):
    """A problem whose gold answer fits the task in form, but is none that an answer can be compared with."""


class Verdict(NamedTuple):
    """A completion's reward, and why: a short fixed text, never a part of the completion."""

    reward: float
    reason: str


class Task(Protocol):
    """Problems with checkable answers."""

    name: str
    instruction = ""  # what follows every problem, unless the job says something else

    def __init__(self, settings: VerifierSettings | None = None, prompt: PromptSettings | None = None):
        self.settings, self._prompt = settings or VerifierSettings(), prompt or PromptSettings()

    def prompt(self, problem: Problem) -> Prompt:
        """The text or conversation that the policy answers: the problem's own conversation, or the job's examples and
        the question, each of them followed by the instruction."""
        if problem.messages:
            return problem.messages
        asked = self._instructed(self.question(problem))
        turns: list[Message] = []
        for example in self._prompt.examples:
            turns += [Message("user", self._instructed(example.problem)), Message("assistant", example.answer)]
        return (*turns, Message("user", asked)) if turns else asked

    def question(self, problem: Problem) -> str:
        """What the policy is asked, as text."""
        return problem.prompt

    def _instructed(self, question: str) -> str:
        instruction = self.instruction if self._prompt.instruction is None else self._prompt.instruction
        return f"{question}\n\n{instruction}" if instruction else question

    def verify(self, problem: Problem, completion: str) -> Verdict:
        """Reward 1.0 for a right answer, 0.0 for a wrong one; what lies between trains, and counts as wrong elsewhere.
        Completions are untrusted: a strange one scores 0, no more."""

    def gold_completion(self, problem: Problem) -> str:
        """A completion that states the problem's answer; `verify` must give it 1.0. Raises NotOfThisTask."""

    def variant(self, problem: Problem, number: int) -> Problem:
        """Presentation `number` (0 <= number < VARIANTS) of a problem from a file; 0 is the problem as it is.

        Sites see the options of a problem in different orders, so that their guesses are independent.
        """
        return problem


@runtime_checkable
class GeneratedTask(Task, Protocol):
    """A task that makes its own problems, and demonstrations for the warm start of a tiny base model."""

    labels: Sequence[str]
    alphabet: str

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        """A problem of one label; equal content gives an equal id."""

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A completion for the warm start: well-formed, and by design seldom right."""
