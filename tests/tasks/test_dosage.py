"""The generated multiple-choice task: amounts recomputed from the question, distinct options, honest ids."""

import re

import numpy as np
import pytest

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.dosage import RIGHT_SHARE
from fedrlvr.types import Problem

TASK = TASKS["dosage"]


def problems(label: str, count: int = 300) -> list[Problem]:
    random = np.random.default_rng(0)
    return [TASK.problem(label, random) for _ in range(count)]


def amount_asked_for(text: str) -> int:
    """Read the question as a person would."""
    first, second = map(int, re.findall(r"\d+", text))
    if "an hour for" in text:
        return first * second
    if "lowered by" in text:
        return first - second
    if "at night" in text:
        return first + second
    assert "over" in text
    assert first % second == 0
    return first // second


@pytest.mark.parametrize("label", TASK.labels)
def test_exactly_the_answered_option_is_the_amount(label):
    for problem in problems(label):
        right = str(amount_asked_for(problem.prompt))
        assert len(problem.choices) == len(set(problem.choices)) == 4
        assert problem.choices["ABCD".index(problem.answer)] == right
        assert all(int(choice) >= 0 for choice in problem.choices)
        assert problem.label == label


def test_the_right_option_may_be_at_any_place():
    letters = [problem.answer for label in TASK.labels for problem in problems(label)]
    for letter in "ABCD":
        assert letters.count(letter) / len(letters) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("label", TASK.labels)
def test_gold_scores_one_and_the_other_letters_zero(label):
    for problem in problems(label, 50):
        assert TASK.verify(problem, TASK.gold_completion(problem)).reward == 1.0
        assert sum(TASK.verify(problem, f"\\boxed{{{letter}}}").reward for letter in "ABCD") == 1.0


def test_the_prompt_is_short_and_the_choice_task_may_ask_it_too():
    problem = problems("pediatrics", 1)[0]
    lines = TASK.prompt(problem).split("\n")
    assert lines[0] == problem.prompt
    assert lines[1:] == [*(f"{letter}) {text}" for letter, text in zip("ABCD", problem.choices, strict=True)), ""]
    assert TASKS["choice"].prompt(problem).startswith(TASK.prompt(problem))
    assert TASKS["choice"].gold_completion(problem) == TASK.gold_completion(problem)


@pytest.mark.parametrize("label", TASK.labels)
def test_demonstrations_are_well_formed_and_right_as_often_as_said(label):
    random = np.random.default_rng(1)
    rewards = []
    for number, problem in enumerate(problems(label, 1500)):
        shown = TASK.variant(problem, number % 24)
        text = TASK.demonstration(shown, random)
        amount, letter = re.fullmatch(r"(\d+) \\boxed\{([ABCD])\}", text).groups()
        assert shown.choices["ABCD".index(letter)] == amount
        rewards.append(TASK.verify(shown, text).reward)
    assert np.mean(rewards) == pytest.approx(RIGHT_SHARE, abs=0.04)
    assert RIGHT_SHARE == 0.4
