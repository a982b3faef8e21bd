"""Answers in words, and golds that are no answer."""

import pytest

from fedrlvr.tasks.latex import normalised
from fedrlvr.tasks.words import is_remark, same_words


@pytest.mark.parametrize(
    ("gold", "candidate"),
    [
        ("\\text{even}", "Even"),
        ("\\text{Tuesday}", "\\textbf{tuesday}."),
        ("\\text{March 3}", "March 3rd"),
        ("\\text{Dr. Li}", "Dr Li"),
        ("\\text{ellipse}", "an ellipse"),
        ("\\text{(B)}", "B"),
        ("\\text{A, C}", "\\text{A,C}"),
        ("no solution", "\\text{No solution.}"),
    ],
)
def test_the_same_words_in_any_style(gold, candidate):
    assert same_words(normalised(gold), normalised(candidate)) is True


@pytest.mark.parametrize(
    ("gold", "candidate"),
    [
        ("\\text{even}", "odd"),
        ("\\text{even}", "not even"),
        ("\\text{Tuesday}", "Thursday"),
        ("\\text{March 3}", "March 4"),
        ("\\text{March 2.5}", "March 25"),
        ("\\text{L}", "\\text{l}"),
        ("\\text{a b}", "\\text{b}"),
        ("ABC", "CBA"),
        ("none", "0"),
    ],
)
def test_other_words_are_not_the_same(gold, candidate):
    assert not same_words(normalised(gold), normalised(candidate))


@pytest.mark.parametrize(("gold", "candidate"), [("4", "5"), ("x+1", "1+x"), ("AB", "BA"), ("5\\text{cm}", "5")])
def test_mathematics_is_not_in_words(gold, candidate):
    assert same_words(gold, candidate) is None


@pytest.mark.parametrize(
    "gold",
    [
        "see figure",
        "See the figure above.",
        "Proof.",
        "\\text{Proof}",
        "proof omitted",
        "N/A",
        "n/a",
        "NaN",
        "unknown",
        "Answers may vary",
        "\\text{answers will vary}",
        "as shown above",
        "left to the reader",
        "QED",
        "the diagram",
        "TBD",
        "See solution",
        "not available",
        "?",
        "-",
        "...",
        "\\text{}",
        "$$",
        "We show that both of the sides are equal to each other",
        "the function is bounded everywhere except near 0",
        "1\u200b",
        "\ufeff12",
        "1\x00",
    ],
)
def test_a_remark_is_no_gold(gold):
    assert is_remark(normalised(gold))


@pytest.mark.parametrize(
    "gold",
    [
        "even",
        "\\text{odd}",
        "Tuesday",
        "ellipse",
        "isosceles triangle",
        "no solution",
        "\\text{None}",
        "undefined",
        "does not exist",
        "infinitely many",
        "all real numbers except 2",
        "\\text{Evelyn}",
        "graph",
        "A",
        "0",
        "-1",
        "\\infty",
        "\\emptyset",
        "\\pi",
        "\\{\\}",
        "x\\neq 2",
        "\\text{July }4",
        "varies inversely",
        "f(2) < f(1) < f(4)",
        "\\text{not enough information}",
        "yes",
    ],
)
def test_a_short_answer_in_words_is_one(gold):
    assert not is_remark(normalised(gold))
