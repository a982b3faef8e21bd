"""Plain numerals, their units, and the normal form in which they are read."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.tasks.latex import Shape, normalised, shape
from fedrlvr.tasks.numbers import MAX_DIGITS, is_calculation, number, quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("3.50", Fraction(7, 2)),
        ("-.25", Fraction(-1, 4)),
        ("1/2", Fraction(1, 2)),
        ("-2/4", Fraction(-1, 2)),
        ("\\frac{10}{4}", Fraction(5, 2)),
        ("-\\frac{1}{2}", Fraction(-1, 2)),
        ("\\frac{-1}{2}", Fraction(-1, 2)),
        ("1,000", 1000),
        ("-12,345,678.5", Fraction(-24691357, 2)),
        ("1\\frac{1}{2}", Fraction(3, 2)),
        ("-1\\frac{1}{2}", Fraction(-3, 2)),
        ("2 3/4", Fraction(11, 4)),
        ("0.\\overline{3}", Fraction(1, 3)),
        ("1.2\\overline{27}", Fraction(27, 22)),
        ("9" * MAX_DIGITS, 10**MAX_DIGITS - 1),
    ],
)
def test_plain_numerals_have_exact_values(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4.",
        "1,00",
        "1000,000",
        ",100",
        "1,2",
        "4 5",
        "2+2",
        "--4",
        "1/-2",
        "1//2",
        "1/2/3",
        "1.5/2",
        "5/0",
        "0/0",
        "\\frac{5}{0}",
        "\\frac{1}{2}3",
        "1\\frac{3}{2}",
        "12 3/2",
        "4x",
        "inf",
        "nan",
        "1e3",
        "1_000",
        "0x4",
        ".",
        "\u0664",
        "\uff14",
        "\u00b2",
        "\u00bd",
        "4\n",
        " 4",
        "9" * (MAX_DIGITS + 1),
        "1." + "0" * (MAX_DIGITS + 1),
    ],
)
def test_anything_else_is_no_numeral(text):
    assert number(text) is None


@given(st.fractions(max_denominator=10**6))
def test_however_a_fraction_is_written_its_value_is_the_same(value):
    top, low = value.numerator, value.denominator
    assert number(f"{top}/{low}") == number(f"\\frac{{{top}}}{{{low}}}") == value
    assert number(f"{3 * top}/{3 * low}") == value
    whole, rest = divmod(abs(top), low)
    if whole and rest:
        assert number(f"{'-' * (value < 0)}{whole}\\frac{{{rest}}}{{{low}}}") == value


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_decimals_and_thousands_are_exact(value, places):
    assert number(f"{value:,}") == value
    scaled = f"{abs(value):0{places + 1}d}"
    text = f"{scaled[: len(scaled) - places]}.{scaled[len(scaled) - places :]}" if places else scaled
    assert number(text) == Fraction(abs(value), 10**places)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" 4 . ", "4"),
        ("$4$.", "4"),
        ("$$x + 1$$", "x+1"),
        ("\\( 4. \\)", "4"),
        ("\u22124", "-4"),
        ("\\left( 0,\\, 1 \\right]", "(0,1]"),
        ("\\left\\{1\\right\\}", "\\{1\\}"),
        ("\\leftarrow", "\\leftarrow"),
        ("\\dfrac 12", "\\frac{1}{2}"),
        ("\\tfrac{1}2", "\\frac{1}{2}"),
        ("\\frac3{4}", "\\frac{3}{4}"),
        ("1{,}000{,}000", "1000000"),
        ("10,\\!000", "10000"),
        ("x^{2} + y_{1}", "x^2+y_1"),
        ("90^{\\circ}", "90^\\circ"),
        ("\\sqrt 2", "\\sqrt{2}"),
        ("5\\mathrm{cm}", "5\\text{cm}"),
        ("\\text{4}", "4"),
        ("4\\quad 5", "4 5"),
        ("1 \\text{ or } 2", "1,2"),
        ("1, 2, and 3", "1,2,3"),
        ("100, 200", "100, 200"),  # not 100,200, which is a number
    ],
)
def test_the_normal_form(text, normal):
    assert normalised(text) == normal
    assert normalised(normal) == normal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,2", Shape("", "", ("1", "2"))),
        ("(1,2)", Shape("(", ")", ("1", "2"))),
        ("[0,\\infty)", Shape("[", ")", ("0", "\\infty"))),
        ("\\{1,2\\}", Shape("\\{", "\\}", ("1", "2"))),
        ("{1,2}", Shape("\\{", "\\}", ("1", "2"))),
        ("(1,2),(3,4)", Shape("", "", ("(1,2)", "(3,4)"))),
        ("((x+1))", Shape("", "", ("x+1",))),
        ("(x+1)(x-1)", Shape("", "", ("(x+1)(x-1)",))),
        ("(0,1)\\cup(2,3)", Shape("", "", ("(0,1)\\cup(2,3)",))),
        ("\\frac{1}{2}", Shape("", "", ("\\frac{1}{2}",))),
        ("\\begin{pmatrix}1,2\\end{pmatrix}", Shape("", "", ("\\begin{pmatrix}1,2\\end{pmatrix}",))),
        ("1\\pm\\sqrt{2}", Shape("", "", ("1+\\sqrt{2}", "1-\\sqrt{2}"))),
        ("[4]", Shape("[", "]", ("4",))),
        ("4,", Shape("", "", ("4", ""))),
        ("", Shape("", "", ("",))),
        (")(", Shape("", "", (")(",))),
    ],
)
def test_the_outer_shape(text, parts):
    assert shape(text) == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5\\text{ cm}", ("5", "cm")),
        ("5 cm", ("5", "cm")),
        ("5cm^2", ("5", "cm^2")),
        ("3\\sqrt{2}\\text{ Inches}", ("3\\sqrt{2}", "inche")),
        ("10\\%", ("10", "%")),
        ("10\\text{ percent}", ("10", "%")),
        ("\\$5.00", ("5.00", "$")),
        ("-$5", ("-5", "$")),
        ("5\\text{ dollars}", ("5", "$")),
        ("90^\\circ", ("90", "\u00b0")),
        ("90\\text{ degrees}", ("90", "\u00b0")),
        ("5\\text{ miles per hour}", ("5", "miles per hour")),
    ],
)
def test_units_are_set_apart(text, expected):
    core, unit = quantity(text)
    assert (core, unit.removesuffix("s")) == (expected[0], expected[1].removesuffix("s"))


@pytest.mark.parametrize(
    "text",
    [
        "5\\text{ or six}",
        "5\\text{ million}",
        "5\\text{ thousand dollars}",
        "5\\text{ pi}",
        "5x",
        "5 m",
        "5 or 6",
        "5\\text{ not four}",
        "\\sin x^\\circ",
        "5\\text{ squared}",
        "\\text{cm}",
        "5\\text{ half}",
        "5 pi",
    ],
)
def test_words_that_change_the_value_are_no_units(text):
    assert quantity(text) == (text, "")


@pytest.mark.parametrize("text", ["2+2", "2^{10}", "\\sqrt{16}", "5!", "\\binom{4}{2}", "2\\cdot2", "8\\div2", "|4|"])
def test_calculations_are_made_of_numerals_and_operators(text):
    assert is_calculation(text)


@pytest.mark.parametrize("text", ["4", "1/2", "\\frac{1}{2}", "x", "2x", "3+4i", "\\alpha", "e^2", "1\\frac{1}{2}"])
def test_numerals_and_unknowns_are_no_calculations(text):
    assert not is_calculation(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 5_000 + ")" * 5_000,
        "{" * 9_999,
        "," * 10_000,
        " " * 9_999 + "x",
        "1," * 5_000,
        "\\text{" * 1_600,
        "1 " * 5_000,
        "\\frac" * 2_000,
        "\\left" * 2_000,
        "or " * 3_000,
        "\\pm" * 3_000,
        "9" * 10_000,
        "$" * 10_000,
    ],
    ids=lambda text: text[:8],
)
def test_ten_thousand_characters_of_garbage_are_read_quickly(text):
    began = time.process_time()
    normal = normalised(text)
    shape(normal), quantity(normal), number(normal), is_calculation(normal)
    assert time.process_time() - began < 0.5
