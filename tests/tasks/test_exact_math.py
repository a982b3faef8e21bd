"""Comparing with nothing lost: letters' case, primes, degrees, i, decimals, and constants of every size. In a process
of its own, as the comparing process changes libraries."""

import json
import subprocess
import sys

import pytest

RUN = """
import json, sys
from fedrlvr.tasks import exact_math, quick_parse
quick_parse.install()
exact_math.install()
print(json.dumps([exact_math.equal(*pair) for pair in json.load(sys.stdin)]))
"""
EQUAL = [
    ("x^2-1", "(x-1)(x+1)"),
    ("\\frac{x}{2}", "0.5x"),
    ("\\frac{1+i}{\\sqrt{2}}", "e^{i\\pi/4}"),
    ("\\sqrt{-4}", "2i"),
    ("|5-12i|", "13"),
    ("\\sin30^\\circ", "\\frac{1}{2}"),
    ("\\frac{1}{3^{50}}", "3^{-50}"),
    ("\\sqrt[3]{2+\\sqrt{5}}", "\\frac{1+\\sqrt{5}}{2}"),
    ("1-\\left(\\frac{5}{6}\\right)^4", "\\frac{671}{1296}"),
    ("(\\sqrt{2}-1)(\\sqrt{2}+1)-1", "0"),
    ("y''+y=0", "y+y''=0"),
    ("\\sum_{k=1}^{n}k", "\\frac{n(n+1)}{2}"),
    ("\\sum_{k=0}^{n}\\binom{n}{k}", "2^n"),
    ("\\sum_{i=1}^{n}i", "\\sum_{k=1}^{n}k"),
    ("1-2^{-n}", "\\sum_{k=1}^{n}2^{-k}"),
    ("\\prod_{k=1}^{n}k", "n!"),
    ("\\begin{pmatrix}\\frac{1}{2}\\\\x\\end{pmatrix}", "\\begin{pmatrix}0.5\\\\x\\end{pmatrix}"),
    ("(-\\infty,\\infty)", "\\mathbb{R}"),
    ("[0,2]", "[0,1)\\cup[1,2]"),
    ("3x^2+4y^2=12", "\\frac{x^2}{4}+\\frac{y^2}{3}=1"),
]
DIFFERENT = [
    ("\\frac{R}{r}", "1"),
    ("\\pi R^2", "\\pi r^2"),
    ("A-a", "0"),
    ("y'", "y"),
    ("y''", "y'"),
    ("\\gamma", "\\Gamma"),
    ("\\gamma", "0.5772156649015329"),
    ("E", "e"),
    ("I^2", "-1"),
    ("2i", "2j"),
    ("i", "-i"),
    ("\\sin30^\\circ", "\\sin30"),
    ("2\\times10^{-20}", "3\\times10^{-20}"),
    ("e^{-50}", "e^{-51}"),
    ("1-e^{-60}", "1"),
    ("\\frac{1}{25!}", "0"),
    ("\\pi", "3.14159265358979323846264338"),
    ("x+10^{-30}", "x"),
    ("\\begin{pmatrix}0.1\\\\1\\end{pmatrix}", "\\begin{pmatrix}0.1000001\\\\1\\end{pmatrix}"),
    ("\\begin{pmatrix}\\pi\\\\1\\end{pmatrix}", "\\begin{pmatrix}3.1415927\\\\1\\end{pmatrix}"),
    ("(0,\\frac{1}{3})\\cup(1,2)", "(0,0.3333333)\\cup(1,2)"),
    ("\\sum_{i=1}^{n}i", "\\sum_{i=0}^{n}i^2"),
    ("x_i", "x_j"),
    ("\\frac{5}{0}", "\\frac{7}{0}"),
    ("2<3", "1<4"),
    ("\\overline{z}", "z"),
    ("\\sum_{k=0}^{\\infty}c", "\\sum_{k=1}^{\\infty}c"),
]


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], bool]:
    pairs = EQUAL + DIFFERENT
    command = [sys.executable, "-c", RUN]
    done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True, timeout=120, check=True)
    return dict(zip(pairs, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("pair", EQUAL)
def test_equal(verdicts, pair):
    assert verdicts[pair] is True


@pytest.mark.parametrize("pair", DIFFERENT)
def test_different(verdicts, pair):
    assert verdicts[pair] is False
