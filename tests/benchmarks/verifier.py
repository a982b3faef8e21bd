"""How many completions per second the verifier scores.

    python tests/benchmarks/verifier.py

It calls `Math.verify` in one thread on completions of about 500 characters. No answer is scored twice, so that none
comes from a cache. Numbers are medians of several rounds. CPU-seconds are those of this process, and of the comparing
process and its child where these are used.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator

import psutil

from fedrlvr.tasks.math import Math
from fedrlvr.types import Problem

ROUNDS = 7
STEP = (
    "We write $\\frac{a}{b} = \\left(x_{%d}\\right)^{2}$, so that the sum is $%d + \\sqrt{y}$ and both sides agree.\n"
)

Case = tuple[Problem, str]


def completion(number: int, answer: str) -> str:
    text = "".join(STEP % (number + i, number * i) for i in range(6))[:470]
    return f"{text}\nThe answer is $\\boxed{{{answer}}}$."


def case(number: int, gold: str, answer: str) -> Case:
    return Problem(str(number), "?", gold), completion(number, answer)


def fast_cases(start: int, count: int) -> Iterator[Case]:
    """A quarter each: the same text, a decimal for a fraction, a fraction in LaTeX, and a wrong number."""
    forms = [
        lambda n: (str(n), str(n)),
        lambda n: (f"{2 * n + 1}/2", f"{n}.5"),
        lambda n: (f"\\frac{{{n}}}{{7}}", f"\\dfrac{{{3 * n}}}{{21}}"),
        lambda n: (str(n), str(n + 1)),
    ]
    return (case(n, *forms[n % len(forms)](n)) for n in range(start, start + count))


def slow_cases(start: int, count: int) -> Iterator[Case]:
    """Expressions that only math-verify can compare, of which every fourth is wrong. No gold comes twice."""
    forms = [
        lambda n: (f"x^2+{n}x+1", f"1+{n}x+x^2"),
        lambda n: (f"{n}\\sqrt{{2}}", f"\\sqrt{{2}}\\cdot {n}"),
        lambda n: (f"\\frac{{{n}\\pi}}{{7}}", f"\\frac{{{n}}}{{7}}\\pi"),
        lambda n: (f"{n}+\\sqrt{{3}}", f"{n}-\\sqrt{{3}}"),
    ]
    return (case(n, *forms[n % len(forms)](n)) for n in range(start, start + count))


def grouped_cases(start: int, count: int) -> Iterator[Case]:
    """As in training: eight different answers to each problem, two of them right and the rest wrong."""
    for n in range(start, start + count):
        problem, first = divmod(n, 8)
        yield case(n, f"{problem}\\sqrt{{2}}", f"{problem + first // 2}\\cdot\\sqrt{{2}}" + "+0" * (first % 2))


def children_seconds() -> float:
    """CPU-seconds of the processes that this one has started, those that they have reaped included."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def measure(title: str, cases: Callable[[int, int], Iterator[Case]], count: int, right: float) -> None:
    task, rounds = Math(), []
    for number in range(ROUNDS + 1):
        batch = list(cases(8000 + number * count, count))
        own, others, began = time.process_time(), children_seconds(), time.perf_counter()
        rewards = [task.verify(problem, text).reward for problem, text in batch]
        wall = time.perf_counter() - began
        own, others = time.process_time() - own, children_seconds() - others
        if sum(rewards) != count * right:
            raise AssertionError(f"{title}: expected {count * right:.0f} right answers, found {sum(rewards):.0f}")
        rounds.append((count / (own + others), count / wall, 1e6 * own / count, 1e6 * others / count))
    per_cpu, per_wall, own, others = (statistics.median(side) for side in zip(*rounds[1:], strict=True))  # 0 warms up
    print(f"| {title} | {per_cpu:,.0f} | {per_wall:,.0f} | {own:.0f} | {others:.0f} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| | a CPU-second | a second | CPU-µs here | CPU-µs in the comparing process |")
    print("| --- | ---: | ---: | ---: | ---: |")
    measure("decided here (text, numerals)", fast_cases, 20_000, 0.75)
    measure("by math-verify, every gold new", slow_cases, 400, 0.75)
    measure("by math-verify, eight answers a gold", grouped_cases, 400, 0.25)
