"""Units: what counts as one, and which words change the value and never count."""

import pytest

from fedrlvr.tasks.latex import normalised
from fedrlvr.tasks.units import MAX_LENGTH, quantity, unit_named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5\\text{ cm}", ("5", "cm")),
        ("5 cm", ("5", "cm")),
        ("5cm^2", ("5", "cm^2")),
        ("5\\text{ cm}^2", ("5", "cm^2")),
        ("5\\mathrm{\\,cm^2}", ("5", "cm^2")),
        ("3\\sqrt{2}\\text{ Inches}", ("3\\sqrt{2}", "inch")),
        ("10\\%", ("10", "%")),
        ("10\\text{ percent}", ("10", "%")),
        ("\\$5.00", ("5.00", "$")),
        ("-$5", ("-5", "$")),
        ("5\\text{ dollars}", ("5", "$")),
        ("25\u00a2", ("25", "cent")),
        ("90^\\circ", ("90", "\u00b0")),
        ("\\frac{45}{2}^\\circ", ("\\frac{45}{2}", "\u00b0")),
        ("180^\\circ-x", ("180-x", "\u00b0")),
        ("90\\text{ degrees}", ("90", "\u00b0")),
        ("37^\\circ\\text{C}", ("37", "\u00b0C")),
        ("5\\text{ miles per hour}", ("5", "hour^-1 mile")),
        ("7:30\\text{ p.m.}", ("7:30", "pm")),
        ("7:30pm", ("7:30", "pm")),
        ("1,200 seats", ("1,200", "seat")),
    ],
)
def test_units_are_set_apart(text, expected):
    assert quantity(normalised(text)) == expected


SAME = [
    ["cm", "centimeter", "centimetres", "centimeters"],
    ["cm^2", "square cm", "sq. cm", "square centimeters"],
    ["ft^2", "sq ft", "square feet", "sq. ft."],
    ["unit^2", "square units", "units^2"],
    ["in", "in.", "inch", "inches"],
    ["min", "mins", "minute", "minutes"],
    ["h", "hr", "hrs", "hours"],
    ["lb", "lbs", "pounds"],
    ["mph", "miles per hour", "mi/h"],
    ["km/h", "kph", "kilometers per hour"],
    ["m/s^2", "meters per second^2", "m s^{-2}"],
    ["mg", "milligram", "milligrams"],
    ["mcg", "ug", "microgram"],
    ["mL", "ml", "cc", "milliliters"],
    ["mL/min", "ml per minute"],
    ["mg/kg/day", "mg/kg/d"],
    ["mmol/L", "millimoles per liter"],
    ["mmHg", "mm Hg"],
    ["mEq/L"],
    ["beats/min", "bpm", "beats per minute"],
    ["am", "a.m.", "AM"],
    ["$", "dollars", "USD"],
    ["%", "percent", "pct"],
    ["year", "years old", "yrs"],
    ["apple", "apples", "more apples", "red apples"],
    ["bag", "bags of candy"],
    ["pair", "pairs of shoes"],
    ["child ticket", "children tickets"],
]


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_names_of_one_unit_are_that_unit_and_no_other(names):
    units = {unit_named(name) for name in names}
    assert len(units) == 1
    assert units != {""}
    assert not any(units & {unit_named(other[0])} for other in SAME if other is not names)


@pytest.mark.parametrize(
    "words",
    [
        "thirds",
        "halves",
        "quarters",
        "fifths",
        "tenths",
        "hundredths",
        "dozen",
        "dozens",
        "tens",
        "score",
        "gross",
        "hundred",
        "thousand",
        "million",
        "mn",
        "billion",
        "trillion dollars",
        "lakh",
        "crore",
        "k",
        "K",
        "M",
        "B",
        "i",
        "e",
        "x",
        "n",
        "pi",
        "eleven",
        "twenty",
        "squared",
        "cubed",
        "squares",
        "factorial",
        "root",
        "sqrt",
        "choose 2",
        "or six",
        "or so",
        "not four",
        "less",
        "less than x",
        "more",
        "more than x",
        "more or less",
        "minus",
        "plus",
        "over",
        "below zero",
        "up",
        "approx",
        "recurring",
        "repeating",
        "is wrong",
        "base",
        "in base six",
        "hex",
        "octal",
        "binary",
        "seats left over",
        "miles to the north",
        "point five",
        "and a half",
        "bags of nothing",
        "square",
        "square cubic cm",
        "cm square",
        "of",
        "/",
        "cm^",
        "",
    ],
)
def test_words_that_may_change_the_value_are_no_units(words):
    assert unit_named(words) == ""
    text = f"5\\text{{ {words}}}"
    assert quantity(text) == (text, "")


@pytest.mark.parametrize(
    "text", ["5x", "5 m", "5 pi", "5 M", "\\text{cm}", "\\sin30^\\circ", "30^\\circ15", "5", "cm", ""]
)
def test_what_has_no_unit_stays_whole(text):
    assert quantity(text) == (text, "")


def test_a_unit_is_short():
    assert unit_named("cm") == quantity("5" + " cm")[1]
    long = "5\\text{" + "cm " * MAX_LENGTH + "}"
    assert quantity(long) == (long, "")
