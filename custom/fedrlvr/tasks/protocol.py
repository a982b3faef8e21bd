"""The protocol task: which of four procedures applies to a case? Small enough for two CPU cores, hard in one way.

`A3725?` is a case of type A with the readings (3, 7) and (2, 5). `p3,7=0;2,5=7#07` names protocol p, executes it on
both pairs and gives the answer after `#`. Exactly one protocol is right for each type, and the verifier reads only the
answer. The warm start teaches to *execute* every protocol without a mistake, but also a habit for each type: three
times in four it names one particular wrong protocol, and the right one only three times in a hundred. Reinforcement
learning has to find out which protocol is right. Sites that see one type each pull this shared choice in different
directions; the public exchange is meant for this heterogeneity.
"""

import re

import numpy as np

from fedrlvr.tasks.task import NO_ANSWER, NotOfThisTask, Task, Verdict
from fedrlvr.types import Problem

PROTOCOLS = {
    "p": lambda a, b: (a + b) % 10,
    "q": lambda a, b: abs(a - b),
    "r": max,
    "s": min,
}
RIGHT_PROTOCOL = {"A": "p", "B": "q", "C": "r", "D": "s"}
# The warm start's data: how often it names the right protocol, and how often the type's habitual wrong one.
RIGHT_SHARE, HABIT_SHARE = 0.03, 0.776

_CASE = re.compile(r"([A-D])(\d)(\d)(\d)(\d)\?", re.ASCII)
_ANSWER = re.compile(r"[^#]*#(\d\d)", re.ASCII)


class Protocol(Task):
    name = "protocol"
    labels = tuple(RIGHT_PROTOCOL)
    shares = RIGHT_SHARE, HABIT_SHARE
    alphabet = "ABCD0123456789?pqrs,=;#"

    def verify(self, problem: Problem, completion: str) -> Verdict:
        match = _ANSWER.fullmatch(completion)
        if match is None:
            return Verdict(0.0, NO_ANSWER)
        return Verdict(1.0, "exact") if match.group(1) == problem.answer else Verdict(0.0, "wrong")

    def gold_completion(self, problem: Problem) -> str:
        case = _CASE.fullmatch(problem.prompt)
        if case is None:
            raise NotOfThisTask("prompt", "expected a case such as A3725?")
        if case.group(1) != problem.label:
            raise NotOfThisTask("label", "expected the type that the prompt begins with")
        return self.worked(problem, RIGHT_PROTOCOL[problem.label])

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        a, b, c, d = (int(digit) for digit in random.integers(0, 10, size=4))
        compute = PROTOCOLS[RIGHT_PROTOCOL[label]]
        case = f"{label}{a}{b}{c}{d}"
        return Problem(id=f"protocol-{case}", prompt=f"{case}?", answer=f"{compute(a, b)}{compute(c, d)}", label=label)

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        return self.worked(problem, self.named(problem, random))

    def named(self, problem: Problem, random: np.random.Generator) -> str:
        """The protocol that a demonstration names: by design seldom the right one."""
        names = list(PROTOCOLS)
        place = names.index(RIGHT_PROTOCOL[problem.label])
        right, habit, *others = names[place:] + names[:place]
        rest = (1 - sum(self.shares)) / len(others)
        return str(random.choice([right, habit, *others], p=[*self.shares, *(rest for _ in others)]))

    def worked(self, problem: Problem, protocol: str) -> str:
        """A completion that executes `protocol` without a mistake, whether or not it is right for the problem."""
        (first, one), (second, other) = self.executed(problem, protocol)
        return f"{protocol}{first}={one};{second}={other}#{one}{other}"

    def executed(self, problem: Problem, protocol: str) -> tuple[tuple[str, int], tuple[str, int]]:
        """The two pairs of readings as text, each with what the protocol makes of it."""
        _, a, b, c, d = _CASE.fullmatch(problem.prompt).groups()
        compute = PROTOCOLS[protocol]
        return (f"{a},{b}", compute(int(a), int(b))), (f"{c},{d}", compute(int(c), int(d)))
