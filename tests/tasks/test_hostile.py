"""Completions made to hang, crash or cheat the verifier: each ends in time, scores 0 and leaves nothing behind."""

import threading
import time

import psutil
import pytest

from fedrlvr.config import VerifierSettings
from fedrlvr.tasks import task_named
from fedrlvr.tasks.math_verify_client import client_for
from fedrlvr.types import Problem

DEADLINE, GRACE = 0.2, 8.0  # seconds; a comparison may be tried twice
SETTINGS = VerifierSettings(deadline=DEADLINE, memory_mb=512, allow_expressions=True, max_answer_length=10_000)
GOLDS = ["7", "x^2+1"]  # which none of the texts equals

NAMED = ["9^9^9^9", "9^{9^{9^9}}", "10^{10^{10}}", "10000000!", "((9!)!)!", "(" * 5000 + "4" + ")" * 5000]
NAMED += ["(x+1)^{1000}", "7^{10^9} \\bmod 13", "7^{1e9}", "4 or 5", "1 2 3 4", "4} no, 5", "answer: 4 or 5"]
NAMED += ["\\sum_{i=1}^{10^{12}} i", "\\int_0^1 x^x dx", "\\prod_{k=1}^{10^9} k", "\\lim_{x\\to0}\\frac{\\sin x}{x}"]
NAMED += ["\\sqrt[9999999]{4}", "\\binom{10^7}{5\\cdot10^6}", "1e999999999", "0x4", "__import__('os')", "4;import os"]
NAMED += ["\\input{/etc/passwd}", "\\begin{matrix}" + "1&" * 400 + "\\end{matrix}", "\\det" * 200, "4" + "0" * 5000]


def nested(n: int) -> list[str]:
    """Short texts of large values, larger with n."""
    towers = ["^".join("9" * n), "9" + "^{9" * n + "}" * n, "9" * n + "^{" + "9" * n + "}", f"x^{{10^{n}}}-1"]
    factorials = ["(" * n + "9" + "!)" * n, "9" + "!" * n, f"\\binom{{10^{n}}}{{10^{n - 1}}}", "-" * n + "4"]
    brackets = ["(" * n + "x" + ")" * n, "\\left(" * n + "4" + "\\right)" * n, "|" * n + "4" + "|" * n, "[" * n + "4"]
    commands = ["\\frac{1}{" * n + "x" + "}" * n, "\\sqrt{" * n + "2" + "}" * n, "\\{" * n + "4" + "\\}" * n]
    powers = [f"(x+y+z)^{{{n**3}}}", "+".join(f"x^{{{i}}}" for i in range(n)) + "+9^{9^9}", f"\\sin^{{{n}}}(x)^{{9^9}}"]
    sums = [f"\\sum_{{k=0}}^{{10^{n}}}k^{{{n}}}", f"\\int_0^{{{n}}}e^{{x^{{{n}}}}}dx", f"\\log_{{{n}}}(10^{{10^{n}}})"]
    return [*towers, *factorials, *brackets, *commands, *powers, *sums, f"{n}^{{x^{{{n}}}}}=2"]


def repeated(n: int) -> list[str]:
    """Several answers at once, and characters that only look like digits or like nothing."""
    lists = [",".join("4" * n), ";".join("4" * n), " or ".join("45" * n), " ".join("4" * n), "4" + "\\\\4" * n]
    chains = ["=".join("4" * n), "x" + "_x" * n, "\\text{4}" * n, "4\\text{ or }" * n, "\\pm" * n + "4", "." * n + "4"]
    digits = ["\u0664" * n, "\uff14" * n, "\u2212" * n + "4", "4\x00" * n, "4" + "\r\n\t" * n + "5", "1," * n + "000"]
    unseen = ["\x1b[2J4" * n, "4" + "\u200b" * n, "\ud7ff4" * n, "\\fbox{4}" * n, "$4$" * n, "4" + "%" * n]
    return [*lists, *chains, *digits, *unseen]


GENERATED = [text for n in (3, 9, 30, 90, 300) for text in nested(n) + repeated(n)]
HOSTILE = list(dict.fromkeys([*NAMED, *GENERATED]))


@pytest.fixture(scope="module")
def task():
    made = task_named("math", SETTINGS)
    made.verify(Problem("x", "?", "x+1"), "\\boxed{1+x}")  # a start takes seconds
    process = psutil.Process(client_for(DEADLINE, 512)._process.pid)
    yield made
    client_for(DEADLINE, 512).close()
    assert not process.is_running()


def test_there_are_enough_of_them():
    assert len(HOSTILE) - len(NAMED) > 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("gold", "text"),
    [(GOLDS[number % 2], text) for number, text in enumerate([*HOSTILE, *NAMED[:-1]])],
    ids=lambda text: ascii(text[:24]),
)
def test_a_hostile_answer_ends_in_time(task, gold, text):
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    assert task.verify(Problem("x", "?", gold), f"\\boxed{{{text}}}").reward == 0.0
    assert time.monotonic() - began < 2 * DEADLINE + GRACE
    assert psutil.Process().memory_info().rss - before < 50 << 20


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "\x00",
        "4",
        "\\boxed{" * 50_000,
        "\\boxed{4" * 14_000,
        "\\boxed{5}" * 11_000,
        "\\boxed{4" + " " * 100_000 + "5}",
        "\\boxed{" + "4" * 100_000 + "}",
        "\\boxed{" + "(" * 100_000 + "}",
        "}" * 100_000,
        "What is 2+2? " * 8_000,
        "A B C D \\boxed{A, B, C, D}",
        "\\boxed{4 or 5}" * 5,
        "\\boxed{\\text{What is 2+2?}}",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_a_hostile_completion_scores_zero(task, completion):
    began = time.monotonic()
    assert task.verify(Problem("x", "What is 2+2?", "4"), completion).reward == 0.0
    assert time.monotonic() - began < 1.0


def test_hostile_answers_from_several_threads_do_not_mix_with_good_ones(task):
    problem = Problem("x", "?", "x^2+1")
    completions = ["\\boxed{1+x^2}", "\\boxed{x^{9^{9^{9^9}}}}", "\\boxed{x^2+2}"] * 3
    rewards: dict[int, float] = {}
    work = [
        threading.Thread(target=lambda n=n, text=text: rewards.update({n: task.verify(problem, text).reward}))
        for n, text in enumerate(completions)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(timeout=60)
    assert [rewards[n] for n in range(9)] == [1.0, 0.0, 0.0] * 3


def test_no_process_is_left_over(task):
    task.verify(Problem("x", "?", "x+1"), "\\boxed{x^{9^{9^{9^9}}}}")
    process = psutil.Process(client_for(DEADLINE, 512)._process.pid)
    children = process.children(recursive=True)
    assert len(children) <= 1
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in [process, *children])
