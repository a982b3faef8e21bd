"""Two changes that make math-verify's parser several times as fast and change none of its results.

They reach into the libraries below it, so only the comparing process installs them, and a test holds that trees are
the same with and without.
"""

from __future__ import annotations

import re

# Sums and products of plain powers. e and i are not among the letters: braces around them mean something else.
_POLYNOMIAL = re.compile(r"(?:[a-df-hj-zA-DF-HJ-Z](?:\^(?:[0-9]|\{[0-9]+\})(?!\^))?|[0-9]+(?!\^)|[-+ ])+")
_POWER = re.compile(r"([A-Za-z])\^")


def install() -> None:
    """Change this process's latex2sympy and sympy. Call once."""
    _predict_in_two_stages()
    _read_integers_directly()


def _predict_in_two_stages() -> None:
    """ANTLR's own advice: predict by the cheap SLL method, whose tree is right where it finds one, and only where it
    finds none by full LL, which latex2sympy's grammar makes ten times as slow."""
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    create = _Latex2Sympy.create_parser

    def create_parser(self, latex: str):
        parser = create(self, _in_braces(latex))
        parser._interp.predictionMode = PredictionMode.SLL
        cheap = parser.math

        def math():
            try:
                return cheap()
            except (MemoryError, RecursionError):  # would only come again, later
                raise
            except Exception:  # latex2sympy reports a syntax error as a bare one; a real one will come again
                return create(self, latex).math()

        parser.math = math
        return parser

    _Latex2Sympy.create_parser = create_parser


def _in_braces(latex: str) -> str:
    """A polynomial with braces around its letters, `{x}^2+1`: of `x^2+1` SLL cannot tell where the power ends."""
    return _POWER.sub(r"{\1}^", latex) if _POLYNOMIAL.fullmatch(latex) else latex


def _read_integers_directly() -> None:
    """Sympy evaluates every numeral as a Python expression, in which `from sympy import *` is run anew each time."""
    from sympy import Integer
    from sympy.parsing import sympy_parser

    parse = sympy_parser.parse_expr

    def parse_expr(text, *arguments, **options):
        if isinstance(text, str) and text.isascii() and text.isdigit() and text[0] != "0":
            return Integer(int(text))
        return parse(text, *arguments, **options)

    sympy_parser.parse_expr = parse_expr
