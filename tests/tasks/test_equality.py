"""Which answers equal a gold, and which only look like it."""

import time
from collections.abc import Iterable

import pytest
from tests.verdicts import verdict

from fedrlvr.tasks.equality import MAX_COMPARISONS, MAX_NESTING, agreement
from fedrlvr.tasks.task import Verdict

RIGHT = {
    "\\frac{3}{4}": ["0.75", ".75", "3/4", "\\dfrac34", "\\frac{6}{8}", "75\\%"],
    "3\\sqrt{2}": ["\\sqrt{18}", "3 \\sqrt 2", "3\\cdot\\sqrt{2}", "\\frac{6}{\\sqrt{2}}"],
    "(0,1)": ["(0, 1)", "\\left(0,\\, 1.0\\right)", "(\\frac{0}{3},1)"],
    "(100,200)": ["(100, 200)"],
    "[0,\\infty)": ["[0, +\\infty)", "\\left[0,\\infty\\right)"],
    "x^2+2x+1": ["1+2x+x^2", "(x+1)^2", "x^{2} + 2x + 1"],
    "\\begin{pmatrix}1\\\\2\\end{pmatrix}": ["\\begin{pmatrix} 1 \\\\ \\frac42 \\end{pmatrix}"],
    "10\\%": ["10", "10%", "0.1", "10 percent"],
    "10": ["10\\%", "10.0", "\\$10", "10\\text{ apples}", "x=10", "$10$", "10."],
    "\\$5": ["5", "$5$", "\\$5.00", "5\\text{ dollars}"],
    "90^\\circ": ["90", "90^{\\circ}", "90\u00b0", "90\\text{ degrees}"],
    "1{,}000": ["1000", "1,000", "1000.00", "1,\\!000"],
    "\\text{Evelyn}": ["Evelyn", "evelyn", "\\mathrm{Evelyn}", "\\text{ EVELYN }"],
    "\\text{even}": ["even", "\\text{Even}"],
    "\\text{(B)}": ["B", "(B)", "\\text{B}"],
    "11111_2": ["11111", "11111_{2}"],
    "x=5": ["5", "x = 5.0"],
    "5": ["x=5", "\\frac{10}{2}", "5\\text{ cm}", "5 cm"],
    "5\\text{ cm}": ["5", "5cm", "5\\,\\mathrm{cm}"],
    "1,2": ["2,1", "1, 2.0", "1 \\text{ and } 2", "2 or 1"],
    "1,-1": ["\\pm 1"],
    "1\\text{ and }(2,3)": ["(2,3),1"],
    "1\\pm\\sqrt{2}": ["1-\\sqrt2, 1+\\sqrt2"],
    "\\{1,2\\}": ["\\{2, 1\\}", "{1,2}"],
    "x=1,y=2": ["x=1, y=2", "y=2,x=1", "1,2"],
    "x\\in[0,1]": ["[0,1]"],
    "(-\\infty,2)\\cup(3,\\infty)": ["(3,\\infty) \\cup (-\\infty, 2)"],
    "\\frac{1}{3}": ["0.\\overline{3}", "2/6"],
    "\\frac{\\pi}{2}": ["\\frac12\\pi", "\\pi/2"],
    "2^{10}": ["1024", "4^5"],
    "y=2x+1": ["2x+1", "2x-y+1=0"],
    "-1": ["\u22121", "-\\frac{3}{3}"],
    "3+4i": ["4i+3"],
}
WRONG = {
    "4": [
        "4 or 5",
        "1 2 3 4",
        "4,5",
        "4;5",
        "4 and 4",
        "4,4",
        "4,",
        ",4",
        "4 5",
        "4\\quad 5",
        "2 2",
        "4 five",
        "4=5",
        "5=4",
        "3+1=4",
        "x=4=5",
        "y=x=4",
        "x=4,y=5",
        "4!",
        "4x",
        "4i",
        "4t\n        ",
        "4\\text{ or five}",
        "4\\text{ million}",
        "4\\text{5}",
        "4^1",
        "\\pm 4",
        "\\{4\\}",
        "[4]",
        "(4,4)",
        "4..",
        "--4",
        "4\\ldots 5",
        "4$5",
        "4\\\\5",
        "-4",
        "40\n        ",
        "x",
        "four",
        "4\\approx 5",
        "4:5",
        "\u0664",
        "\uff14",
        "4\x00",
        "\x004",
        "4\u200b",
        "",
    ],
    "10": ["1 2 3 4"],
    "(1,2)": ["(2,1)", "1,2", "\\{1,2\\}", "[1,2]", "(1,2]", "(1,2,3)", "(1.2)", "12"],
    "1,2": ["1.2", "1", "1,2,3", "1,1", "(1,2)", "[1,2]"],
    "1,1,2": ["1,2,2", "1,2"],
    "1,2,3": ["1\\text{ and }(2,3)", "1\\text{ or }\\{2,3\\}"],
    "\\text{even}": ["neve", "odd", "even odd", "\\text{even or odd}"],
    "1/3": ["0.333333", "0.3", "3", "0.33333333333333333333"],
    "\\pi": ["3.141593", "3.14159265358979", "x", "\\frac{22}{7}"],
    "3\\sqrt{2}": ["4.242641", "4.24264068711929"],
    "(\\frac{1}{3},1)": ["(0.333333,1)"],
    "11111_2": ["31", "11111_3"],
    "31": ["11111_2"],
    "5\\text{ cm}": ["5\\text{ kg}", "6\\text{ cm}"],
    "x=5": ["y=5", "x=6", "x>5"],
    "x=1,y=2": ["2,1", "x=2,y=1"],
    "x+1": ["x+1,2", "x+2", "x+1=2", "4 and x+1", "x+1\\text{ or }x", "x"],
    "0.5": ["0.5\\text{ million}", "50"],
    "10\\%": ["0.01", "1000"],
    "1000": ["1", "1,00", "1,0000", "1,000,000"],
    "5/0": ["5", "0", "7/0", "5.0/0"],
    "1e-7": ["1", "10^{-7}x", "-7"],
}


@pytest.mark.parametrize(("gold", "candidate"), [(gold, text) for gold in RIGHT for text in RIGHT[gold]])
def test_equal_answers_are_right(gold, candidate):
    assert verdict(gold, candidate).reward == 1.0


@pytest.mark.parametrize(("gold", "candidate"), [(gold, text) for gold in WRONG for text in WRONG[gold]])
def test_what_only_looks_equal_is_wrong(gold, candidate):
    assert verdict(gold, candidate) in (Verdict(0.0, "wrong"), Verdict(0.0, "unevaluated"))


def test_a_list_of_any_length_is_compared_and_only_few_of_its_parts_each_with_each():
    asked = []

    def ask(gold: str, candidate: str) -> str:
        asked.append((gold, candidate))
        return "different"

    gold = ",".join(f"x+{n}" for n in range(200))
    assert agreement(gold, ",".join(f"x+{n}" for n in reversed(range(200))), ask) == "exact"
    assert agreement(gold, gold.replace("x+7,", "x+700,"), ask) == "wrong"
    assert len(asked) == 1
    assert agreement(gold, gold.replace("x", "y"), ask) == "wrong"


def test_the_comparisons_of_one_answer_are_bounded():
    asked = []

    def ask(gold: str, candidate: str) -> str:
        asked.append((gold, candidate))
        return "equal" if gold[-1] == candidate[-1] != "0" else "different"

    def sets(name: str, exponents: Iterable[int]) -> str:
        return ",".join(f"\\{{{','.join(f'{m}{name}^{n}' for n in exponents)}\\}}" for m in range(2, 12))

    assert agreement(sets("a", range(9, -1, -1)), sets("b", range(10)), ask) == "wrong"
    assert len(asked) < MAX_COMPARISONS


@pytest.mark.parametrize(("nesting", "reason"), [(MAX_NESTING, "math-verify"), (MAX_NESTING + 1, "wrong")])
def test_brackets_in_brackets_are_compared_to_some_depth(nesting, reason):
    gold, candidate = ("\\{" * nesting + text + ",1\\}" * nesting for text in ("x+1", "1+x"))
    assert agreement(gold, candidate, lambda *pair: "equal") == reason


def test_a_part_that_costs_too_much_is_not_compared_with_the_others():
    outcomes = iter(["timeout"])
    assert agreement("x+1,x+2", "y+1,y+2", lambda *pair: next(outcomes)) == "timeout"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 5_000 + ")" * 5_000,
        "{" * 9_999,
        "," * 10_000,
        "1," * 5_000,
        "\\text{" * 1_600,
        "1 " * 5_000,
        "\\frac" * 2_000,
        "\\frac1" * 1_600,
        "\\left" * 2_000,
        "or " * 3_000,
        "\\pm" * 3_000,
        "x=" * 5_000,
        "{a\\choose" * 1_000,
        "\\{x\\mid" * 1_200,
        "5 cm" + " cm" * 3_000,
        "1<x" * 3_000,
        "9" * 10_000,
        "$" * 10_000,
        "\u221a\u00bd" * 5_000,
        "the limit exists " * 600 + "at 0",
        "word-" * 2_000 + "!",
        "a" * 9_999 + "!",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_ten_thousand_characters_of_anything_are_read_in_linear_time(text):
    def seconds(gold: str, candidate: str) -> float:
        began = time.process_time()
        agreement(gold, candidate, lambda *pair: "different")
        return time.process_time() - began

    linear = max(seconds("x+1" * 3_000, "x+2" * 3_000), 0.01)
    assert seconds(text, "x+1") < 30 * linear
    assert seconds("x+1", text) < 30 * linear
    assert seconds(text, text + "2") < 30 * linear


def test_words_before_something_else_take_linear_time():
    """A pattern once took 2 s for this gold, and for ever for a longer one."""
    began = time.process_time()
    assert verdict("the limit exists everywhere except at 0", "1").reward == 0.0
    assert verdict("the function is continuous and differentiable at every point (except 0)", "1").reward == 0.0
    assert time.process_time() - began < 0.5
