"""The arithmetic task: answers recomputed from the story, and a verifier that reads the last box."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.arithmetic import RIGHT_SHARE
from fedrlvr.types import Problem

TASK = TASKS["arithmetic"]
FOUR = Problem("arithmetic-take-ana-figs-9-5", "ana has 9 figs and loses 5. how many figs?", "4", "take")


def problems(label: str, count: int = 200) -> list[Problem]:
    random = np.random.default_rng(0)
    return [TASK.problem(label, random) for _ in range(count)]


def answer_of_the_story(text: str) -> int:
    """Read the story as a person would: its two numbers and its verb."""
    first, second = map(int, re.findall(r"\d+", text))
    if "gets" in text:
        return first + second
    if "loses" in text:
        return first - second
    if "bags of" in text:
        return first * second
    assert "into" in text
    whole, rest = divmod(first, second)
    assert rest == 0, text
    return whole


@pytest.mark.parametrize("label", TASK.labels)
def test_answers_are_what_the_story_says_and_never_negative(label):
    for problem in problems(label):
        assert int(problem.answer) == answer_of_the_story(problem.prompt) > 0
        assert problem.label == label


@pytest.mark.parametrize("label", TASK.labels)
def test_gold_scores_one_and_its_neighbours_zero(label):
    for problem in problems(label):
        assert TASK.verify(problem, TASK.gold_completion(problem)).reward == 1.0
        for near in (int(problem.answer) - 1, int(problem.answer) + 1, -int(problem.answer)):
            assert TASK.verify(problem, f"\\boxed{{{near}}}").reward == 0.0


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("9-5=4 \\boxed{4}", 1.0),
        ("\\boxed{ 4 }", 1.0),
        ("\\boxed{4.0}", 1.0),
        ("\\boxed{8/2}", 1.0),
        ("\\boxed{4} no, 5", 1.0),  # the last box is what counts, not the last number
        ("\\boxed{4} no, \\boxed{5}", 0.0),
        ("\\boxed{5} no, \\boxed{4}", 1.0),
        ("\\boxed{4} and \\boxed{", 1.0),  # the last box that is closed
        ("4", 0.0),
        ("", 0.0),
        ("boxed{4}", 0.0),
        ("\\boxed{}", 0.0),
        ("\\boxed{4 or 5}", 0.0),
        ("\\boxed{4,5}", 0.0),
        ("\\boxed{2+2}", 0.0),
        ("\\boxed{x=4}", 1.0),
        ("\\boxed{4\x00}", 0.0),
        ("\\boxed{\uff14}", 0.0),
        ("\\boxed{4" + " " * 100_000 + "}", 1.0),
        ("\\boxed{5}" * 10_000, 0.0),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_the_reward_of_a_completion_to_a_problem_whose_answer_is_four(completion, reward):
    assert TASK.verify(FOUR, completion).reward == reward


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60) | st.text("\\boxed{}4 ", max_size=30) | st.text(max_size=30).map("\\boxed{{{}}}".format))
def test_any_text_scores_without_an_error(text):
    assert TASK.verify(FOUR, text).reward in (0.0, 1.0)


@pytest.mark.parametrize("label", TASK.labels)
def test_demonstrations_do_the_sum_they_write_and_choose_the_right_one_as_often_as_said(label):
    random = np.random.default_rng(1)
    right = 0
    sign = {"add": "+", "take": "-", "times": "*", "share": "/"}[label]
    drawn = problems(label, 1500)
    for problem in drawn:
        first, operation, second, result, boxed = re.fullmatch(
            r"(\d+)([-+*/])(\d+)=(-?\d+) \\boxed\{(-?\d+)\}", TASK.demonstration(problem, random)
        ).groups()
        a, b = int(first), int(second)
        assert int(result) == {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operation] == int(boxed)
        assert [a, b] == [int(number) for number in re.findall(r"\d+", problem.prompt)]
        right += operation == sign
    assert right / len(drawn) == pytest.approx(RIGHT_SHARE, abs=0.04)
