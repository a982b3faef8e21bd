"""Plain numerals and calculations."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.tasks.numbers import MAX_DIGITS, is_calculation, number


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
        ("1.5\\times10^3", 1500),
        ("3\\cdot10^{8}", 3 * 10**8),
        ("-2.5\\times10^{-4}", Fraction(-1, 4000)),
        ("1.5e3", 1500),
        ("2E-2", Fraction(1, 50)),
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
        "10^6",
        "1.5\\times10",
        "1.5\\times10^{1000}",
        "1e9999",
        "e3",
        "2^{10}",
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


@pytest.mark.parametrize("text", ["2+2", "2^{10}", "\\sqrt{16}", "5!", "\\binom{4}{2}", "2\\cdot2", "8\\div2", "|4|"])
def test_calculations_are_made_of_numerals_and_operators(text):
    assert is_calculation(text)


@pytest.mark.parametrize("text", ["x", "2x", "3+4i", "\\alpha", "e^2", "4\n", "\uff14"])
def test_texts_with_something_unknown_are_no_calculations(text):
    assert not is_calculation(text)
