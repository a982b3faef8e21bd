"""Plain numerals, and the units around them. Values are exact fractions, and bounded in size."""

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

# Commands of a calculation with known numbers. Any other letter in a text names something unknown.
_CALCULATION = re.compile(
    r"\\(?:cdot|times|div|frac|binom|sqrt|pi|ln|log|exp|sin|cos|tan|sec|csc|cot|circ|overline|infty)(?![A-Za-z])"
)
_LETTER = re.compile(r"[A-Za-z]")

_SIGNS = {
    "$": re.compile(r"([-+]?)\\?\$([^$]+)"),
    "%": re.compile(r"(.+?)\\?%", re.DOTALL),
    "\u00b0": re.compile(r"([-+.0-9]+)\^(?:\\circ|\{\\circ\})"),
}
_UNIT = re.compile(r"(?P<rest>.*[^\s,;])\s*\\text\{\s*(?P<unit>[A-Za-z][A-Za-z ./-]*)\}(?P<power>\^[0-9])?", re.DOTALL)
_BARE_UNIT = re.compile(
    r"""(?P<rest>[-+]?[0-9.,/]+)\ ?
    (?P<unit>(?:(?:square|cubic|sq|cu)\ )?(?:mm|cm|km|(?:|centi|kilo|milli)(?:met(?:er|re)s?|grams?|lit(?:er|re)s?)
    |feet|foot|ft|inch|inches|yards?|miles?|mph|units?|degrees?|percent|dollars?|cents?|mg|kg|ml
    |seconds?|minutes?|hours?|days?|weeks?|months?|years?))
    (?P<power>\^[0-9])?""",
    re.VERBOSE,
)
_SAME_UNIT = {"dollar": "$", "percent": "%", "degree": "\u00b0"}
_NO_UNIT = re.compile(
    r"or|and|not?|nor|but|n?either|maybe|perhaps|if|then|else|plus|minus|times|over|divided|by|to|about|base|mod"
    r"|dozen|hundred|(?:thou|mill|bill|trill)[a-z]*|half|third|quarter|squared|cubed|pi"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten"
)


def number(text: str) -> Fraction | None:
    """The value of a plain numeral in normal form: integer, decimal (also with a repeating end), a/b, `\\frac{a}{b}`,
    a mixed number such as `1\\frac{1}{2}`, thousands set apart by commas. None for anything else."""
    match = _NUMERAL.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict()
    if decimal := part["decimal"] or part["thousands"]:
        value = Fraction(decimal.replace(",", ""))
    elif part["period"]:
        value = _repeating(part["front"] or "0", part["fixed"] or "", part["period"])
    else:
        value = _fraction(part["whole"], int(part["n"] or part["top"]), int(part["d"] or part["low"]))
    return -value if value is not None and part["sign"] == "-" else value


def quantity(text: str) -> tuple[str, str]:
    """An answer in normal form without its unit, and the unit: "" where none is stated, `%`, `$`, a degree sign, or its
    words. Words that change or hedge the value are no units."""
    for sign, pattern in _SIGNS.items():
        if match := pattern.fullmatch(text):
            return "".join(match.groups()), sign
    match = _UNIT.fullmatch(text) or _BARE_UNIT.fullmatch(text)
    if match is None:
        return text, ""
    unit = " ".join(match["unit"].lower().split())
    words = re.split(r"[ ./-]+", unit)
    if len(words) > 4 or any(map(_NO_UNIT.fullmatch, words)):
        return text, ""
    singular = unit.removesuffix("s") if len(unit) > 2 else unit
    return match["rest"].rstrip(), _SAME_UNIT.get(singular, singular) + (match["power"] or "")


def is_calculation(text: str) -> bool:
    """Whether an answer in normal form has only numerals, operators, roots, known constants and functions, such as 2+2,
    `\\sqrt{16}`, 5! and `\\binom{4}{2}`, but is no plain numeral."""
    plain = text.isascii() and text.isprintable()
    return plain and not _LETTER.search(_CALCULATION.sub("", text)) and number(text) is None


def _fraction(whole: str | None, top: int, low: int) -> Fraction | None:
    if low == 0 or (whole and not 0 < top < low):
        return None
    return Fraction(top, low) + int(whole or 0)


def _repeating(front: str, fixed: str, period: str) -> Fraction:
    start = Fraction(int(front + fixed), 10 ** len(fixed))
    return start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
