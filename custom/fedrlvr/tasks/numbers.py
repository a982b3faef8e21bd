"""Plain numerals. Values are exact fractions, and bounded in size."""

import re
from fractions import Fraction

MAX_DIGITS = 100  # in a row, so that no integer takes long to compute

_D = f"[0-9]{{1,{MAX_DIGITS}}}"
_NUMERAL = re.compile(
    rf"""(?P<sign>[-+]?)(?:
      (?P<decimal>{_D}(?:\.{_D})?|\.{_D})
    | (?P<thousands>[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,20}}(?:\.{_D})?)
    | (?:(?P<whole>{_D})(?:\ (?=[0-9])|(?=\\)))?  # of a mixed number
      (?:(?P<n>{_D})/(?P<d>{_D})|\\frac\{{(?P<top>-?{_D})\}}\{{(?P<low>-?{_D})\}})
    | (?P<front>{_D})?\.(?P<fixed>{_D})?\\overline\{{(?P<period>{_D})\}}
    )""",
    re.VERBOSE,
)

# 1.5\times10^{-3} and 1.5e-3; a bare 10^6 is a calculation.
_SCIENTIFIC = re.compile(
    rf"([-+]?{_D}(?:\.{_D})?)"
    r"(?:(?:\\times|\\cdot|\*) ?10\^(?:\{([-+]?[0-9]{1,3})\}|([0-9]))|[eE]([-+]?[0-9]{1,3}))"
)

# Commands of a calculation with known numbers. Any other letter in a text names something unknown.
_CALCULATION = re.compile(
    r"\\(?:cdot|times|div|frac|binom|sqrt|pi|ln|log|exp|sin|cos|tan|sec|csc|cot|circ|overline|infty)(?![A-Za-z])"
)
_LETTER = re.compile(r"[A-Za-z]")


def number(text: str) -> Fraction | None:
    """The value of a plain numeral in normal form: integer, decimal (also with a repeating end), a/b, `\\frac{a}{b}`,
    a mixed number such as `1\\frac{1}{2}`, thousands set apart by commas, `1.5\\times10^3`, 1.5e3. None for anything
    else."""
    match = _NUMERAL.fullmatch(text)
    if match is None:
        match = _SCIENTIFIC.fullmatch(text)
        return Fraction(match[1]) * Fraction(10) ** int(match[2] or match[3] or match[4]) if match else None
    part = match.groupdict()
    if decimal := part["decimal"] or part["thousands"]:
        value = Fraction(decimal.replace(",", ""))
    elif part["period"]:
        value = _repeating(part["front"] or "0", part["fixed"] or "", part["period"])
    else:
        value = _fraction(part["whole"], int(part["n"] or part["top"]), int(part["d"] or part["low"]))
    return -value if value is not None and part["sign"] == "-" else value


def is_calculation(text: str) -> bool:
    """Whether an answer in normal form has only numerals, operators, roots, known constants and functions, such as 2+2,
    `\\sqrt{16}`, 5! and `\\binom{4}{2}`."""
    return text.isascii() and text.isprintable() and not _LETTER.search(_CALCULATION.sub("", text))


def _fraction(whole: str | None, top: int, low: int) -> Fraction | None:
    if low == 0 or (whole and not 0 < top < low):
        return None
    return Fraction(top, low) + int(whole or 0)


def _repeating(front: str, fixed: str, period: str) -> Fraction:
    start = Fraction(int(front + fixed), 10 ** len(fixed))
    return start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
