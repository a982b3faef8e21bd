"""The protocol task: its rules, recomputed here digit by digit, and a verifier that reads only the answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.tasks import TASKS, task_named
from fedrlvr.tasks.protocol import HABIT_SHARE, RIGHT_SHARE
from fedrlvr.types import Problem

TASK = TASKS["protocol"]
CASE = Problem("x", "A3725?", "07", "A")  # 3 + 7 = 10 and 2 + 5 = 7, last digits
GOLD = "p3,7=0;2,5=7#07"


def problems(label: str, count: int = 300) -> list[Problem]:
    random = np.random.default_rng(0)
    return [TASK.problem(label, random) for _ in range(count)]


def answer_by_type(kind: str, a: int, b: int) -> int:
    """The rules once more: A last digit of the sum, B distance, C larger, D smaller."""
    return {"A": int(str(a + b)[-1]), "B": a - b if a > b else b - a, "C": sorted((a, b))[1], "D": sorted((a, b))[0]}[
        kind
    ]


@pytest.mark.parametrize("label", TASK.labels)
def test_answers_follow_the_rule_of_their_type(label):
    for problem in problems(label):
        kind, *digits = problem.prompt[:-1]
        a, b, c, d = map(int, digits)
        assert kind == label == problem.label
        assert problem.answer == f"{answer_by_type(kind, a, b)}{answer_by_type(kind, c, d)}"


@pytest.mark.parametrize("label", TASK.labels)
def test_gold_scores_one_and_any_other_answer_zero(label):
    for problem in problems(label):
        gold = TASK.gold_completion(problem)
        assert TASK.verify(problem, gold).reward == 1.0
        for wrong in range(0, 100, 7):
            expected = float(f"{wrong:02d}" == problem.answer)
            assert TASK.verify(problem, f"{gold[:-2]}{wrong:02d}").reward == expected


def test_the_gold_completion_by_hand():
    assert TASK.gold_completion(CASE) == GOLD
    assert TASK.gold_completion(Problem("x", "B3725?", "43", "B")) == "q3,7=4;2,5=3#43"
    assert TASK.gold_completion(Problem("x", "C3725?", "75", "C")) == "r3,7=7;2,5=5#75"
    assert TASK.gold_completion(Problem("x", "D3725?", "32", "D")) == "s3,7=3;2,5=2#32"


@pytest.mark.parametrize("completion", [GOLD, "#07", "q wrong protocol, right answer#07", "two\nlines#07"])
def test_only_what_follows_the_mark_counts(completion):
    assert TASK.verify(CASE, completion).reward == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "07",
        "#",
        "#7",
        "#007",
        "#070",
        "#70",
        "#08",
        GOLD + " ",
        GOLD + "\n",
        GOLD + "#07",
        GOLD + "#08",
        "#08" + GOLD,
        "##07",
        "#07\x00",
        "\x00#0\x007",
        "#\uff10\uff17",  # full-width digits
        "#\u0660\u0667",  # Arabic digits
        "#0 7",
        "#+7",
        "\uff0307",  # full-width mark
        "7" * 100_000,
        "#" * 100_000,
        GOLD * 7000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_whatever_is_not_exactly_one_answer_scores_zero(completion):
    assert TASK.verify(CASE, completion).reward == 0.0


def test_a_long_completion_with_one_answer_at_its_end_is_read():
    assert TASK.verify(CASE, "p" * 100_000 + "#07").reward == 1.0


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40) | st.text("#0123456789 p", max_size=12))
def test_any_text_scores_one_exactly_when_it_ends_in_its_only_mark_and_the_answer(text):
    assert TASK.verify(CASE, text).reward == float(text.count("#") == 1 and text.endswith("#07"))


@pytest.mark.parametrize("label", TASK.labels)
def test_demonstrations_are_executed_faithfully_and_name_protocols_as_often_as_said(label):
    random = np.random.default_rng(1)
    right = dict(zip("ABCD", "pqrs", strict=True))[label]
    named = []
    for problem in problems(label, 3000):
        text = TASK.demonstration(problem, random)
        assert text == TASK.worked(problem, text[0])
        named.append(text[0])
    shares = {name: named.count(name) / len(named) for name in "pqrs"}
    assert shares.pop(right) == pytest.approx(RIGHT_SHARE, abs=0.02)
    *others, habit = sorted(shares.values())
    assert habit == pytest.approx(HABIT_SHARE, abs=0.04)
    assert others == pytest.approx([(1 - RIGHT_SHARE - HABIT_SHARE) / 2] * 2, abs=0.03)


def test_the_right_protocol_is_named_but_less_often_than_by_chance():
    """Never named, it could not be found; at chance, nothing would be left to learn."""
    assert 0 < RIGHT_SHARE < 0.25


def test_an_unknown_task_is_refused_with_the_known_ones():
    assert task_named("protocol") is TASK
    with pytest.raises(ValueError, match=r"'protocl'; known: arithmetic, .*protocol"):
        task_named("protocl")
