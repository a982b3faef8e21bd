"""The normal form: one spelling for what can be written in many ways, and nothing lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.tasks.latex import normalised


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" 4 . ", "4"),
        ("$4$.", "4"),
        ("**4**", "4"),
        ("$$x + 1$$", "x+1"),
        ("\\( 4. \\)", "4"),
        ("\\left( 0,\\, 1 \\right]", "(0,1]"),
        ("\\left\\{1\\right\\}", "\\{1\\}"),
        ("\\leftarrow", "\\leftarrow"),
        ("\\dfrac 12", "\\frac{1}{2}"),
        ("\\tfrac{1}2", "\\frac{1}{2}"),
        ("\\frac3{4}", "\\frac{3}{4}"),
        ("\\frac\\pi2", "\\frac{\\pi}{2}"),
        ("\\frac{\\sqrt 3}2", "\\frac{\\sqrt{3}}{2}"),
        ("\\frac120", "\\frac{1}{2}0"),
        ("\\sqrt 2", "\\sqrt{2}"),
        ("\\sqrt[3] 2", "\\sqrt[3]{2}"),
        ("\\sqrt(2)", "\\sqrt(2)"),
        ("\\binom n2", "\\binom{n}{2}"),
        ("{n \\choose 2}", "\\binom{n}{2}"),
        ("{1 \\over 2}", "\\frac{1}{2}"),
        ("\\log_2 3", "\\log_{2}3"),
        ("\\log_{2} 3", "\\log_{2}3"),
        ("\\log_{10}3", "\\log_{10}3"),
        ("1{,}000{,}000{,}000", "1000000000"),
        ("2,\\! 222,\\! 222,\\! 220", "2222222220"),
        ("10\\,000", "10000"),
        ("x^{2} + y_{1}", "x^2+y_1"),
        ("90^{\\circ}", "90^\\circ"),
        ("90\\degree", "90^\\circ"),
        ("5\\mathrm{cm}", "5\\text{cm}"),
        ("\\text { cm}", "\\text{cm}"),
        ("\\text{4}", "4"),
        ("\\text{1,200 seats.}", "1,200 seats"),
        ("\\mathbf 7", "7"),
        ("{\\bf 7}", "{7}"),
        ("\\bm{\\frac12}", "{\\frac{1}{2}}"),
        ("\\textcolor{red}{7}", "{7}"),
        ("\\color{red}7", "7"),
        ("\\mathrm{e}^x", "e^x"),
        ("2\\mathrm{e}", "2\\text{e}"),  # which might be a unit
        ("\\operatorname{arcsin}x", "\\arcsin x"),
        ("20\\text{ min}", "20\\text{min}"),
        ("4\\quad 5", "4 5"),
        ("4\\,\\;5", "4 5"),
        ("x \\neq 2", "x\\ne2"),
        ("x>=2", "x\\ge2"),
        ("a\\leqslant b", "a\\le b"),
        ("\\varnothing", "\\emptyset"),
        ("\\{ \\}", "\\emptyset"),
        ("\\lbrack 1,2\\rbrack", "[1,2]"),
        ("\\{t : t>0\\}", "\\{t\\mid t>0\\}"),
        ("n \\equiv 3 \\pmod 8", "n\\equiv3\\pmod{8}"),
        ("\\mathbb R", "\\mathbb{R}"),
        ("\\begin{bmatrix} 1 \\\\[4pt] 2 \\\\ \\end{bmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\left(\\begin{array}{c}1\\\\2\\end{array}\\right)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\begin{array}{cc} 1 & 2 \\end{array}", "\\begin{pmatrix}1&2\\end{pmatrix}"),
        ("\\begin{vmatrix}1\\end{vmatrix}", "\\begin{vmatrix}1\\end{vmatrix}"),
        ("1 \\text{ or } 2", "1;2"),
        ("1, 2, and 3", "1,2;3"),
        ("5\\ \\&\\ 7", "5;7"),
        ("100, 200", "100, 200"),  # not 100,200, which is a number
        ("8{:}30", "8:30"),
        ("8\\!:\\!30", "8:30"),
        ("3 pi", "3\\pi"),
        ("spin", "spin"),
        ("B^{\\top}", "B^T"),
        ("\u22124", "-4"),
        ("2\u00bd", "2\\frac{1}{2}"),
        ("\u221a12", "\\sqrt{12}"),
        ("x\u00b2\u2264y\u2081", "x^2\\le y_1"),
        ("10\u207b\u00b3", "10^{-3}"),
        ("\u03b8\u2208\u211d", "\\theta\\in\\mathbb{R}"),
        ("2\u03c0r", "2\\pi r"),
        ("90\u00b0", "90^\\circ"),
        ("5 \u03bcg", "5 mcg"),
        ("\uff14", "\uff14"),  # a digit of another width is no answer
        ("\u20114", "\u20114"),  # and neither is a hyphen that does not break
    ],
)
def test_the_normal_form(text, normal):
    assert normalised(text) == normal
    assert normalised(normal) == normal


@given(st.integers(1, 10**30))
def test_thousands_may_be_set_apart_in_every_way(value):
    for comma in ("{,}", ",\\!", ",\\! ", "\\,"):
        assert normalised(f"{value:,}".replace(",", comma)) == str(value)


@pytest.mark.parametrize(
    "text", ["R", "r", "f'(x)", "A^T", "\\overline{z}", "\\vec{a}", "|x|", "\\|x\\|", "x^*", "x_1"]
)
def test_nothing_that_means_something_is_dropped(text):
    assert normalised(text) == text
