"""An answer's parts, its name, and the interval that an inequality describes."""

import pytest

from fedrlvr.tasks.intervals import interval
from fedrlvr.tasks.shapes import Shape, assigned, equations, shape


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
        ("\\{\\pm3\\}", Shape("\\{", "\\}", ("+3", "-3"))),
        ("1;2,3", Shape("", "", ("1", "2", "3"))),
        ("1,200;3,400", Shape("", "", ("1,200", "3,400"))),
        ("1;(2,3)", Shape("", "", ("1", "(2,3)"))),
        ("1;\\{2,3\\}", Shape("", "", ("1", "\\{2,3\\}"))),
        ("[4]", Shape("[", "]", ("4",))),
        ("4,", Shape("", "", ("4", ""))),
        ("", Shape("", "", ("",))),
        (")(", Shape("", "", (")(",))),
    ],
)
def test_the_outer_shape(text, parts):
    assert shape(text) == parts


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("x=3", ("x", "3")),
        ("3=x", ("x", "3")),
        ("x_1=3", ("x_1", "3")),
        ("a_{n+1}=2n", ("a_{n+1}", "2n")),
        ("\\theta=\\pi", ("\\theta", "\\pi")),
        ("\\vec{v}=(1,2)", ("\\vec{v}", "(1,2)")),
        ("\\angle BAC=35", ("\\angle BAC", "35")),
        ("m\\angle B=35", ("m\\angle B", "35")),
        ("AB=10", ("AB", "10")),
        ("|AB|=10", ("|AB|", "10")),
        ("area=24", ("area", "24")),
        ("\\text{Area}=24", ("\\text{Area}", "24")),
        ("f(x)=x^2", ("f(x)", "x^2")),
        ("f'(x)=2x", ("f'(x)", "2x")),
        ("f^{-1}(3)=1", ("f^{-1}(3)", "1")),
        ("P(X=2)=\\frac{1}{8}", ("P(X=2)", "\\frac{1}{8}")),
        ("(x,y)=(2,3)", ("(x,y)", "(2,3)")),
        ("S=\\sum_{k=1}^{n}k", ("S", "\\sum_{k=1}^{n}k")),
        ("x\\in[0,1]", ("x", "[0,1]")),
        ("x=4=5", None),
        ("2x=6", None),
        ("xy=6", None),
        ("x+y=6", None),
        ("x^2=4", None),
        ("x^{-1}=4", None),
        ("|x|=4", None),
        ("x(x+3)=4", None),
        ("a(b+c)=4", None),
        ("\\sin(x)=0", None),
        ("\\frac{x}{2}=4", None),
        ("-x=4", None),
        ("x>4", None),
        ("=4", None),
        ("x=", None),
        ("\\infty", None),
    ],
)
def test_a_name_is_set_apart_from_its_value(text, pair):
    assert assigned(text) == pair


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4", 0),
        ("x=4", 1),
        ("x=y=4", 2),
        ("\\sum_{k=1}^{n}k", 0),
        ("P(X=2)", 0),
        ("x\\le4", 0),
        ("x<=4", 0),
        ("a:=4", 0),
    ],
)
def test_equations_are_counted_outside_brackets(text, count):
    assert equations(text) == count


@pytest.mark.parametrize(
    ("parts", "described"),
    [
        (("x<4",), ("x", "(-\\infty,4)")),
        (("x\\ge-7",), ("x", "[-7,\\infty)")),
        (("4>x",), ("x", "(-\\infty,4)")),
        (("-3<t\\le5",), ("t", "(-3,5]")),
        (("5\\ge t>-3",), ("t", "(-3,5]")),
        (("x_1<\\pi",), ("x_1", "(-\\infty,\\pi)")),
        (("x\\ne2",), ("x", "(-\\infty,2)\\cup(2,\\infty)")),
        (("x<1", "x>3"), ("x", "(-\\infty,1)\\cup(3,\\infty)")),
        (("\\{x\\mid x>2\\}",), ("x", "(2,\\infty)")),
        (("\\{x\\in\\mathbb{R}\\mid x>2\\}",), ("x", "(2,\\infty)")),
        (("\\{x\\mid y>2\\}",), None),
        (("x<1", "y>3"), None),
        (("2x>4",), None),
        (("1<x>3",), None),
        (("x<",), None),
        (("1<2",), None),
        (("x=4",), None),
        (("0<x<y<1",), None),
        (("",), None),
    ],
)
def test_an_inequality_in_one_name_is_an_interval(parts, described):
    assert interval(";".join(parts), parts) == described


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("x>1,x<3", "(1,3)"),
        ("x<1,x>3", "(-\\infty,1)\\cup(3,\\infty)"),
        ("x\\le2,x\\ge2", None),
        ("x>0,x\\ne1", "(0,\\infty)\\cap((-\\infty,1)\\cup(1,\\infty))"),
        ("x<1;x>3,x<5", None),
        ("x\\ne1;x\\ne2", None),
    ],
)
def test_inequalities_beside_a_comma_hold_all_or_one_as_it_has_sense(text, described):
    assert interval(text, shape(text).parts) == (described and ("x", described))
