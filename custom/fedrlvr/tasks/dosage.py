"""Generated multiple-choice questions about amounts, small enough to try the choice task with."""

import operator
import string

import numpy as np

from fedrlvr.tasks.choice import LETTERS, Choice
from fedrlvr.types import Problem

CASES = {  # by label: the text, and what it asks for
    "cardiology": ("{d}: {a} mg an hour for {b} hours. how many mg?", operator.mul),
    "oncology": ("{d}: {a} mg, to be lowered by {b} mg. how many mg?", operator.sub),
    "pediatrics": ("{d}: {a} mg in the morning, {b} mg at night. how many mg a day?", operator.add),
    "surgery": ("{d}: {a} ml over {b} hours. how many ml an hour?", operator.floordiv),
}
DRUGS = ("abc", "dol", "mit", "sar")
RIGHT_SHARE = 0.4  # how often a demonstration names the right option


class Dosage(Choice):
    name = "dosage"
    labels = tuple(CASES)
    alphabet = string.ascii_letters + string.digits + " .,:?()\\{}\n"
    instruction = ""

    def question(self, problem: Problem) -> str:
        return super().question(problem) + "\n"

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        b = int(random.integers(2, 10))
        a = b * int(random.integers(2, 10)) if label == "surgery" else int(random.integers(b + 1, 20))
        text, compute = CASES[label]
        right = compute(a, b)
        near = {other(a, b) for _, other in CASES.values()} | {right + 1, right + 2, right + 3}
        wrong = random.choice(sorted(near - {right}), size=3, replace=False).tolist()
        amounts = random.permutation([right, *wrong]).tolist()
        drug = DRUGS[int(random.integers(len(DRUGS)))]
        return Problem(
            id=f"dosage-{label}-{drug}-{a}-{b}-" + "-".join(map(str, amounts)),
            prompt=text.format(d=drug, a=a, b=b),
            answer=LETTERS[amounts.index(right)],
            label=label,
            choices=tuple(map(str, amounts)),
        )

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        place = LETTERS.index(problem.answer)
        if random.random() >= RIGHT_SHARE:
            place = int(random.choice([other for other in range(len(problem.choices)) if other != place]))
        return f"{problem.choices[place]} \\boxed{{{LETTERS[place]}}}"
