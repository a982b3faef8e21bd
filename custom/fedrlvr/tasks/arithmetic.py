"""Generated arithmetic word problems in the style of GSM8K, answered in `\\boxed{}` like other mathematics."""

import operator
import string

import numpy as np

from fedrlvr.tasks.math import Math
from fedrlvr.types import Problem

STORIES = {  # by label: the text, and the operation that it asks for
    "add": ("{n} has {a} {t} and gets {b} more. how many {t}?", "+", operator.add),
    "take": ("{n} has {a} {t} and loses {b}. how many {t}?", "-", operator.sub),
    "times": ("{n} has {a} bags of {b} {t}. how many {t}?", "*", operator.mul),
    "share": ("{n} puts {a} {t} into {b} bags. how many {t} in a bag?", "/", operator.floordiv),
}
NAMES = ("ana", "ben", "cho", "dee")
THINGS = ("figs", "nuts", "pens")
RIGHT_SHARE = 0.35  # how often a demonstration picks the operation that the story asks for


class Arithmetic(Math):
    name = "arithmetic"
    labels = tuple(STORIES)
    alphabet = string.ascii_lowercase + string.digits + " .,?+-*/=\\{}\n"
    instruction = ""

    def question(self, problem: Problem) -> str:
        return problem.prompt + "\n"

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        b = int(random.integers(2, 10))
        a = int(random.integers(b + 1, 20)) if label in ("add", "take") else int(random.integers(2, 10))
        if label == "share":
            a *= b
        name, thing = NAMES[int(random.integers(len(NAMES)))], THINGS[int(random.integers(len(THINGS)))]
        text, _, compute = STORIES[label]
        prompt, answer = text.format(n=name, a=a, b=b, t=thing), str(compute(a, b))
        return Problem(id=f"arithmetic-{label}-{name}-{thing}-{a}-{b}", prompt=prompt, answer=answer, label=label)

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        a, b = (int(part) for part in problem.id.split("-")[-2:])
        others = [label for label in STORIES if label != problem.label]
        chosen = problem.label if random.random() < RIGHT_SHARE else others[int(random.integers(len(others)))]
        _, sign, compute = STORIES[chosen]
        return f"{a}{sign}{b}={compute(a, b)} \\boxed{{{compute(a, b)}}}"
