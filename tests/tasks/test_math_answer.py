"""Finding the boxed answer, and comparing numerals: only plain ones, exactly, and never for long."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.math_answer import MAX_LENGTH, answers_agree, is_numeral, last_boxed
from fedrlvr.types import Problem

TASK = TASKS["arithmetic"]

HOSTILE = [
    "9^9^9^9",
    "9**9**9**9",
    "7^{10^9}",
    "10000000!",
    "2^{2^{2^{2^{2^{2}}}}}",
    "(" * 5000 + "4" + ")" * 5000,
    "\\frac{" * 5000 + "4" + "}" * 5000,
    "\\frac{1}{" * 4 + "4" + "}" * 4,
    "\\sqrt[9999999]{4}",
    "\\binom{10000000}{5000000}",
    "\\sum_{i=1}^{10^{12}} i",
    "\\int_0^1 x^x dx",
    "1e999999999",
    "0x4",
    "9" * 100_000,
    "4" + "0" * 30 + "." + "0" * 30,
    "-" * 5000 + "4",
    "4;import os",
    "\\input{/etc/passwd}",
]


@pytest.mark.timeout(60)  # a guard that lets one through would compute for ever
@pytest.mark.parametrize("content", HOSTILE, ids=lambda text: text[:20])
def test_hostile_expressions_score_zero_within_a_second(content):
    problem = Problem("x", "?", "4")
    began = time.monotonic()
    for completion in (f"\\boxed{{{content}}}", content, f"\\boxed{{{content}"):
        assert TASK.verify(problem, completion).reward == 0.0
        assert answers_agree("4", completion) is False
    assert answers_agree("4", content) is False
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{4}", "4"),
        ("so \\boxed{ -4 } it is", "-4"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed{}", ""),
        ("\\boxed{a}b}", "a"),
        ("\\boxed{" + "1" * MAX_LENGTH + "}", "1" * MAX_LENGTH),
        ("\\boxed{" + "1" * (MAX_LENGTH + 1) + "}", None),
        ("\\boxed{1} \\boxed{2", None),
        ("\\boxed{{1}", None),
        ("\\boxed 4", None),
        ("no box", None),
        ("", None),
    ],
)
def test_the_last_box_with_balanced_braces_holds_the_candidate(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-7",
        "+7",
        "007",
        "3.50",
        "-0.25",
        "1/2",
        "-1/2",
        "\\frac{1}{2}",
        "-\\frac{1}{2}",
        "\\dfrac{10}{4}",
        "9" * 15,
    ],
)
def test_plain_numerals_are_integers_decimals_and_fractions(text):
    assert is_numeral(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 4",
        "4 ",
        "4\n",
        "4.",
        ".5",
        "1,000",
        "4 or 5",
        "2+2",
        "--4",
        "1/-2",
        "1//2",
        "1/2/3",
        "1.5/2",
        "\\frac{1}{2}3",
        "\\frac12",
        "\\frac{1.5}{2}",
        "\\tfrac{1}{2}",
        "4%",
        "$4$",
        "4x",
        "inf",
        "nan",
        "1e3",
        "\u0664",
        "\uff14",
        "\u00b2",
        "\u00bd",
        "4\x00",
        "9" * 16,
        "1." + "0" * 16,
    ],
)
def test_anything_else_is_no_numeral_and_agrees_with_nothing(text):
    assert not is_numeral(text)
    assert answers_agree("4", text) is False
    assert answers_agree(text, text) is False


@pytest.mark.parametrize("gold", ["1/2", "0.5", "\\frac{1}{2}", "2/4"])
@pytest.mark.parametrize("candidate", ["1/2", "0.5", "\\frac{1}{2}", "\\dfrac{2}{4}", "0.50", "+0.5"])
def test_one_half_agrees_with_one_half_however_it_is_written(gold, candidate):
    assert answers_agree(gold, candidate)


@pytest.mark.parametrize(
    ("gold", "candidate"),
    [
        ("1/2", "-1/2"),
        ("1/2", "0.51"),
        ("1/2", "2/1"),
        ("1/3", "0.33"),
        ("4", "-4"),
        ("4", "40"),
        ("4", "4.01"),
        ("4", "3.9999"),
        ("12", "21"),
        ("123456789012345", "123456789012346"),
    ],
)
def test_near_misses_do_not_agree(gold, candidate):
    assert answers_agree(gold, candidate) is False
    assert answers_agree(candidate, gold) is False


def test_a_repeating_decimal_is_accepted_when_right_to_six_places():
    assert answers_agree("1/3", "0.333333")
    assert not answers_agree("1/3", "0.33333")
    assert not answers_agree("2/3", "0.666666")


@pytest.mark.parametrize("other", ["5/0", "0/0", "7/0", "\\frac{5}{0}", "0", "5", "1/2"])
def test_a_division_by_zero_agrees_with_nothing_not_even_itself(other):
    assert answers_agree(other, "5/0") is False
    assert answers_agree("5/0", other) is False


@settings(max_examples=50, deadline=None)
@given(st.integers(-30, 30), st.integers(1, 12), st.integers(-30, 30), st.integers(1, 12))
def test_fractions_agree_exactly_when_they_are_equal(p, q, r, s):
    assert answers_agree(f"{p}/{q}", f"{r}/{s}") is (Fraction(p, q) == Fraction(r, s))
    assert answers_agree(f"{p * s}/{q * s}", f"{p}/{q}") is True


def test_it_works_in_a_thread_that_may_not_set_alarms():
    found = []
    thread = threading.Thread(
        target=lambda: found.append((answers_agree("811/3", "1622/6"), answers_agree("811", "3")))
    )
    thread.start()
    thread.join(timeout=60)
    assert found == [(True, False)]
