"""Two changes that make math-verify's parser several times as fast without changing its results.

They change libraries that math-verify uses, so only the comparing process installs them. A test checks that the parsed
trees are the same with and without them.
"""

import re

# Sums and products of plain powers. The letters e and i are left out: in braces they mean something else.
_POLYNOMIAL = re.compile(r"(?:[a-df-hj-zA-DF-HJ-Z](?:\^(?:[0-9]|\{[0-9]+\})(?!\^))?|[0-9]+(?!\^)|[-+ ])+")
_POWER = re.compile(r"([A-Za-z])\^")


def install() -> None:
    """Change this process's latex2sympy and sympy. Call once."""
    _predict_in_two_stages()
    _read_integers_directly()


def _predict_in_two_stages() -> None:
    """Parse in ANTLR's fast SLL mode first, and in full LL mode only if that finds no tree, as ANTLR advises.

    A tree that SLL finds is right. LL is ten times as slow with latex2sympy's grammar.
    """
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
            except (MemoryError, RecursionError):  # LL would only meet it again, later
                raise
            except Exception:  # a bare one is latex2sympy's syntax error; LL decides whether it is one
                return create(self, latex).math()

        parser.math = math
        return parser

    _Latex2Sympy.create_parser = create_parser


def _in_braces(latex: str) -> str:
    """A polynomial with braces around its letters, as `{x}^2+1`: in `x^2+1` SLL cannot see where the power ends."""
    return _POWER.sub(r"{\1}^", latex) if _POLYNOMIAL.fullmatch(latex) else latex


def _read_integers_directly() -> None:
    """Read integers here: sympy would evaluate each as Python code and run `from sympy import *` each time."""
    from sympy import Integer
    from sympy.parsing import sympy_parser

    parse = sympy_parser.parse_expr

    def parse_expr(text, *arguments, **options):
        if isinstance(text, str) and text.isascii() and text.isdigit() and text[0] != "0":
            return Integer(int(text))
        return parse(text, *arguments, **options)

    sympy_parser.parse_expr = parse_expr
