"""The faster parser gives the same trees. Each variant runs in a process of its own, as it changes libraries."""

import json
import subprocess
import sys

import numpy as np

ANSWERS = [
    r"\frac{3}{4}",
    r"3\sqrt{2}",
    r"(0,1)",
    r"[0,\infty)",
    r"x^2+2x+1",
    r"\begin{pmatrix}1\\2\end{pmatrix}",
    r"x=5",
    r"(-\infty,3)\cup(5,\infty)",
    r"\{1,2\}",
    r"2\pi",
    r"e^{2}",
    r"e^2+1",
    r"\ln2",
    r"\log_2{3}",
    r"\sqrt[3]{4}",
    r"5^{1/3}",
    r"(x-1)(x+1)",
    r"x(x+1)",
    r"2x+3y",
    r"-\frac{1}{2}x",
    r"\frac{x+1}{x-1}",
    r"\alpha+\beta",
    r"\sin(x)",
    r"\cos^2{x}",
    r"\tan\frac{\pi}{4}",
    r"n!",
    r"\binom{n}{2}",
    r"2^{n+1}",
    r"\frac{n(n+1)}{2}",
    r"2+3i",
    r"(2+3i)(1-i)",
    r"\frac{1+\sqrt{5}}{2}",
    r"(x,y)",
    r"x\in[1,2]",
    r"x>3",
    r"x\ge3",
    r"-2<x<2",
    r"y=2x+1",
    r"x^2+y^2=1",
    r"x^2=4",
    r"3.14",
    r"1000",
    r"0.5",
    r"007",
    r"2\cdot3^5",
    r"10^{-3}",
    r"6.02\times10^{23}",
    r"x^3-3x+2",
    r"(x^2+2x+2)(x^2-2x+2)",
    r"2x^2y^3",
    r"\sqrt{x^2+1}",
    r"\frac{4\pi}{3}-\sqrt{3}",
    r"\pi{}r^2",
    r"x_1+x_2",
    r"a_{n+1}",
    r"f(x)",
    r"\lfloor{x}\rfloor",
    r"|x|",
    r"\int_0^1{x}dx",
    r"\sum_{k=1}^n{k}",
    r"\frac{\pi}{2}+k\pi",
    r"\ln(x+1)",
    r"e^{-x^2}",
    r"a^2+2ab+b^2",
    r"a^3-b^3",
    r"x^2+10x+1",
    r"y^2-4y+4",
    r"x+",
    r"+x",
    r"\frac{",
    r"1+",
    r"\sqrt",
    r"(1",
    r"}{",
    r"1..2",
    r"x^^2",
    r"\foo{1}",
]

TREES = """
import json, sys, sympy
from fedrlvr.tasks import exact_math, quick_parse
if sys.argv[1] == "quick":
    quick_parse.install()
trees = []
for text in json.load(sys.stdin):
    try:
        trees.append("tree " + sympy.srepr(exact_math.parsed(text, "i" in text)))
    except Exception as error:
        trees.append(type(error).__name__)
print(json.dumps(trees))
"""


def polynomials(count: int) -> list[str]:
    """Random sums of products of powers, as completions write them."""
    random = np.random.default_rng(0)

    def power() -> str:
        letter, exponent = random.choice(list("xyabnekfT")), int(random.integers(1, 13))
        written = f"{exponent}" if exponent < 10 and random.random() < 0.5 else f"{{{exponent}}}"
        return f"{letter}^{written}" if random.random() < 0.6 else letter

    def term() -> str:
        number = str(random.integers(2, 99)) if random.random() < 0.6 else ""
        return number + "".join(power() for _ in range(int(random.integers(0 if number else 1, 3))))

    signs = ("+", "-", " + ", " - ")
    return [
        term() + "".join(str(random.choice(signs)) + term() for _ in range(random.integers(1, 4))) for _ in range(count)
    ]


ASKED = ANSWERS + polynomials(60)


def trees(way: str) -> list[str]:
    command = [sys.executable, "-c", TREES, way]
    done = subprocess.run(command, input=json.dumps(ASKED), capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_trees_are_the_same_with_and_without():
    plain, quick = trees("plain"), trees("quick")
    assert len(plain) == len(ASKED) > 130
    assert dict(zip(ASKED, quick, strict=True)) == dict(zip(ASKED, plain, strict=True))
    assert sum(tree.startswith("tree ") for tree in plain) > 120  # most are expressions, and some are not


def test_both_changes_are_in_force_with_the_versions_that_are_installed():
    code = """
from fedrlvr.tasks import quick_parse

quick_parse.install()
calls = []
import builtins
run = builtins.exec
builtins.exec = lambda *a: (calls.append(a), run(*a))[1]
from fedrlvr.tasks.exact_math import parsed
assert parsed("17x+1", False), "not parsed"
assert not any("from sympy import" in str(a[0]) for a in calls), "sympy is still imported for every numeral"
from antlr4.atn.ParserATNSimulator import ParserATNSimulator as S
modes, predict = [], S.adaptivePredict
S.adaptivePredict = lambda self, *a: (modes.append(self.predictionMode.name), predict(self, *a))[1]
assert parsed("18x+1", False) and set(modes) == {"SLL"}, modes
modes.clear()
assert parsed("(x^2+19)(x+1)", False) and set(modes) == {"SLL", "LL"}, modes
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
