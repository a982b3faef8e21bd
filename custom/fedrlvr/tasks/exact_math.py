"""What makes math-verify exact enough to pay rewards by: for the comparing process only, as it changes libraries.

As they come, latex2sympy and math-verify take `R` and `r` for the same letter, drop a prime and a degree sign, read `i`
as any letter and `\\gamma` as Euler's constant, round decimals to six places, and call constants equal that differ by
less than 1e-15. Here a letter is itself, a decimal is a fraction, `i` is the imaginary unit, a degree is pi/180, and
constants that are no fractions are compared to 90 digits of their size.
"""

import re
from functools import lru_cache

DIGITS = 100
CACHED = 4096  # texts; each gold comes many times, and so do some answers
SAME = 1e-90  # relative difference of constants that are equal
APART = 1e-8  # relative difference that no error of rounding makes

_I = re.compile(r"\\[A-Za-z]+|I")
_PRIMES = re.compile(r"(?<![A-Za-z])([A-Za-z])('{1,3})(?!')")
_IMAGINARY = re.compile(r"\\[A-Za-z]+|(i)")
_INDEX = re.compile(r"_\{? ?i(?![A-Za-z])")


def install() -> None:
    """Change this process's latex2sympy and math-verify. Call once."""
    from latex2sympy2_extended import latex2sympy2
    from math_verify import grader

    latex2sympy2.get_symbol = _symbol
    grader.sympy_numeric_eq = lambda one, other, *precision: numerically_equal(one, other)
    grader.sympy_compare_symbols = numerically_equal


def equal(gold: str, candidate: str) -> bool:
    """Whether two expressions, equations or sets are equal. Raises anything for odd input."""
    from math_verify import verify
    from sympy import Equality, Expr, Set, nan, oo, zoo

    imaginary = has_imaginary_unit(gold, candidate)
    one, other = _with_series_computed(parsed(gold, imaginary), parsed(candidate, imaginary))
    if isinstance(one, Expr) and isinstance(other, Expr) and (value := one.doit()) == other.doit():
        # 1/0 equals nothing, and nothing is known of a diverging sum
        return not (value.has(nan, zoo) or (value.is_Mul and value.is_infinite is not False and value.has(oo)))
    if isinstance(one, Equality) and isinstance(other, Equality) and not (one.free_symbols and other.free_symbols):
        return one == other  # f(2)=3, which math-verify takes for true
    if isinstance(one, Set) and isinstance(other, Set):
        one, other = one.doit(), other.doit()
    if (known := constants_equal(one, other)) is not None:
        return known
    if differ_somewhere(one, other):
        return False
    return bool(verify([one], [other], timeout_seconds=None, raise_on_error=True))


def has_imaginary_unit(*texts: str) -> bool:
    """Whether `i` stands in the texts for the imaginary unit: it does unless it is somewhere an index."""
    return not any(map(_INDEX.search, texts)) and any(match[1] for text in texts for match in _IMAGINARY.finditer(text))


@lru_cache(CACHED)
def parsed(text: str, imaginary: bool):
    """The text as one sympy object. Raises an exception for what is none."""
    from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex

    # Units and boxes are handled earlier. Here they would drop letters from expressions, or look for another box.
    config = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    text = _I.sub(lambda match: "\\mathit{I}" if match[0] == "I" else match[0], text)  # which would be the unit
    text = _PRIMES.sub(lambda match: f"{match[1]}_{{{'p' * len(match[2])}rime}}", text)
    return _converter()(is_real=None if imaginary else True, convert_degrees=True).parse(normalize_latex(text, config))


@lru_cache(1)
def _converter() -> type:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
    from sympy import Function, Rational

    class Converter(_Latex2Sympy):
        def __init__(self, **options):
            super().__init__(config=ConversionConfig(lowercase_symbols=False), **options)

        def parse_number(self, text):
            return Rational(text.replace(",", ""))

        def handle_gcd_lcm(self, f, args):  # sympy takes names for polynomials without a common factor
            if any(value.free_symbols for value in args):
                return Function(f)(*sorted(args, key=str))
            return super().handle_gcd_lcm(f, args)

    return Converter


def _symbol(text: str, is_real: bool | None = True, lowercase_symbols: bool = False):
    """The symbol of a letter or command; case counts. `is_real` is None where `i` is the imaginary unit."""
    from sympy import I, Symbol, pi

    name = text.strip().removeprefix("\\")
    if name == "pi":
        return pi
    return I if name == "i" and is_real is None else Symbol(name, real=is_real)


def _with_series_computed(*objects) -> tuple:
    """The objects, with sums and products computed, for which names in their limits stand for whole numbers."""
    from sympy import Product, Sum, Symbol

    series = [part for value in objects for part in value.atoms(Sum, Product)]
    limits = [bound for part in series for limit in part.limits for bound in limit[1:]]
    whole = {name: Symbol(name.name, integer=True, nonnegative=True) for bound in limits for name in bound.free_symbols}
    return tuple(value.subs(whole).doit() for value in objects) if series else objects


def numerically_equal(one, other) -> bool:
    """Whether two objects are equal without simplifying: matrices by element, others once evaluated."""
    from sympy import MatrixBase

    one, other = one.doit(), other.doit()
    if isinstance(one, MatrixBase) and isinstance(other, MatrixBase):
        pairs = zip(one.flat(), other.flat(), strict=True)
        return one.shape == other.shape and all(numerically_equal(a, b) for a, b in pairs)
    known = constants_equal(one, other)
    return (one - other) == 0 if known is None else known


def constants_equal(one, other) -> bool | None:
    """Whether two constants are equal: fractions exactly, others to 90 digits of their size. None for what is no
    constant, or has no digits as far as sympy can compute."""
    from sympy import Expr

    if not all(isinstance(value, Expr) and value.is_number and value.is_finite for value in (one, other)):
        return None
    one, other = one.doit(), other.doit()
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        return False
    for digits, bound in ((15, APART), (DIGITS, SAME)):
        apart = _apart(one.evalf(digits), other.evalf(digits), bound)
        if apart or apart is None:
            return False if apart else None
    return True


def _apart(a, b, bound: float) -> bool | None:
    """Whether two computed constants differ by more than so much of their size; None where they have no digits that
    mean something: a hidden zero has none."""
    for value in (a, b):
        parts = value.as_real_imag()
        if not all(part.is_Rational or part.is_Float for part in parts):
            return None
        if not any(getattr(part, "_prec", 2) > 1 for part in parts):
            return None
    return bool(abs(a - b) > bound * max(abs(a), abs(b)))


def differ_somewhere(one, other) -> bool:
    """Whether two expressions have clearly different values where every name is a certain small prime. That costs
    little, and trying to simplify their difference to 0 costs much."""
    from sympy import Expr, prime

    if not (isinstance(one, Expr) and isinstance(other, Expr)) or one.is_Matrix or other.is_Matrix:
        return False
    names = sorted(one.free_symbols | other.free_symbols, key=str)
    values = {name: prime(place + 4) for place, name in enumerate(names)}
    try:
        return bool(_apart(one.evalf(15, subs=values), other.evalf(15, subs=values), APART))
    except (TypeError, ValueError, AttributeError):  # sympy cannot compute it
        return False
