"""Whether two mathematical answers are equal: decided here where that is exact and cheap, else by math-verify.

math-verify alone is too generous to be a reward: it accepts `1 2 3 4` for 10, `4=5` for 5, `\\{1,2\\}` for (1,2). So
the shapes are compared here, part by part, and math-verify compares single expressions only.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from fedrlvr.tasks.latex import MAX_PARTS, normalised, shape
from fedrlvr.tasks.numbers import is_calculation, number, quantity

EXACT, EQUAL, MATH_VERIFY, WRONG, UNEVALUATED = "exact", "equal", "math-verify", "wrong", "unevaluated"
RIGHT = (EXACT, EQUAL, MATH_VERIFY)
MAX_NESTING = 4

Ask = Callable[[str, str], str]  # (gold, candidate) -> "equal", "different", or why there is no answer

_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)")
_ASSIGNED = re.compile(
    r"(\\?[A-Za-z]+(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]+\}))?'{0,3}(?:\([A-Za-z]\))?)(?:=|\\in(?![A-Za-z]))([^=]+)"
)
_WRAPPED = re.compile(r"\\text\{[^{}]*\}")
_WORD = re.compile(r"[A-Za-z]{3,}(?:[ .'-]?[A-Za-z]+)*")
_BASED = re.compile(r"([0-9][0-9A-F]*)_(?:\{([0-9]+)\}|([0-9]))")
_NEVER_ASKED = re.compile(
    r"\$|\\(?:boxed|fbox|text|approx|sim|ldots|dots|cdots|ne|neq|not|input|include)(?![A-Za-z])|[0-9] [0-9.]|:"
)


def agreement(gold: str, candidate: str, ask: Ask, allow_expressions: bool = False) -> str:
    """Why a candidate is right ("exact", "equal", "math-verify") or not ("wrong", "unevaluated", or what `ask` says).

    If the gold is a plain numeral, a candidate that is a calculation (2+2, `\\sqrt{16}`) is "unevaluated" unless
    `allow_expressions`. If the gold is itself an expression, any equal expression is right.
    """
    if gold == candidate:
        return EXACT
    if (a := number(gold)) is not None and (b := number(candidate)) is not None:
        return EQUAL if a == b else WRONG
    return _Comparison(ask, allow_expressions).compare(normalised(gold), normalised(candidate))


class _Comparison:
    """One comparison of texts in normal form. Every method returns a reason, as `agreement`."""

    def __init__(self, ask: Ask, allow_expressions: bool):
        self.ask = ask
        self.allow_expressions = allow_expressions

    def compare(self, gold: str, candidate: str, nesting: int = 0) -> str:
        if gold == candidate:
            return EXACT
        if not candidate or nesting > MAX_NESTING:
            return WRONG
        if (same := _same_words(gold, candidate)) is not None:
            return EQUAL if same else WRONG
        if number(gold) is not None and number(candidate) is not None:  # 1,000 is no list
            return self.expressions(gold, candidate)
        if (values := _values(gold, candidate)) is not None:
            return self.compare(*values, nesting + 1)
        outer, other = shape(gold), shape(candidate)
        if outer[:2] != other[:2] or len(outer.parts) != len(other.parts) or len(outer.parts) > MAX_PARTS:
            return WRONG
        if len(outer.parts) == 1 and not outer.opening:
            return self.single(outer.parts[0], other.parts[0])
        if outer.opening in ("", "\\{") and not _in_order(outer.parts, other.parts):
            return self.unordered(outer.parts, list(other.parts), nesting)
        return _weakest([self.compare(a, b, nesting + 1) for a, b in zip(outer.parts, other.parts, strict=True)])

    def unordered(self, golds: tuple[str, ...], candidates: list[str], nesting: int) -> str:
        """Each part of the gold needs its own part of the candidate."""
        found = []
        for gold in golds:
            failure = WRONG
            for candidate in sorted(candidates, key=lambda part: part != gold):
                reason = self.compare(gold, candidate, nesting + 1)
                if reason in RIGHT:
                    candidates.remove(candidate)
                    found.append(reason)
                    break
                if reason not in (WRONG, UNEVALUATED):  # a part that costs too much is not compared with the others
                    return reason
                failure = reason if reason != WRONG else failure
            else:
                return failure
        return _weakest(found)

    def single(self, gold: str, candidate: str) -> str:
        """Two expressions, or two equations that are not of the form name = value."""
        equations = len(_EQUALS.findall(gold)), len(_EQUALS.findall(candidate))
        if equations == (0, 0):
            return self.expressions(gold, candidate)
        return self.asked(gold, candidate) if equations == (1, 1) else WRONG

    def expressions(self, gold: str, candidate: str) -> str:
        (gold, unit), (candidate, other) = quantity(gold), quantity(candidate)
        if unit and other and unit != other:
            return WRONG
        value, answer = number(gold), number(candidate)
        if value is not None and answer is not None:
            percent = "%" in (unit, other) and unit != other
            right = value == answer or (percent and _without_percent(value, unit) == _without_percent(answer, other))
            return EQUAL if right else WRONG
        if (same := _same_digits(gold, candidate)) is not None:
            return EQUAL if same else WRONG
        if value is not None:
            if not is_calculation(candidate):
                return WRONG
            if not self.allow_expressions:
                return UNEVALUATED
        # math-verify would compare decimals to six places only, so a numeral is sent as an exact fraction.
        return self.asked(gold, candidate if answer is None else _as_latex(answer))

    def asked(self, gold: str, candidate: str) -> str:
        """What math-verify says; "wrong" for texts that it must not be asked about."""
        if gold == candidate:
            return EQUAL
        if not (_may_be_asked(gold) and _may_be_asked(candidate)):
            return WRONG
        outcome = self.ask(gold, candidate)
        return {"equal": MATH_VERIFY, "different": WRONG}.get(outcome, outcome)


def _same_words(gold: str, candidate: str) -> bool | None:
    """Whether two answers in words are the same, whatever their case; None if neither is in words.

    math-verify would read the letters as a product of symbols, in any order.
    """
    if not (_WRAPPED.fullmatch(gold) or _WORD.fullmatch(gold) or _WRAPPED.fullmatch(candidate)):
        return None
    return _folded(gold) == _folded(candidate)


def _folded(text: str) -> str:
    text = text.replace("\\text{", "").replace("}", "").strip()
    text = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    return " ".join(text.casefold().rstrip(".").split())


def _values(gold: str, candidate: str) -> tuple[str, str] | None:
    """The values alone, where `name=value` is compared with a value or with another value of the same name."""
    given, stated = _ASSIGNED.fullmatch(gold), _ASSIGNED.fullmatch(candidate)
    if given and stated and given[1] == stated[1]:
        return given[2], stated[2]
    if given and not stated and not _EQUALS.search(candidate):
        return given[2], candidate
    if stated and not given and not _EQUALS.search(gold):
        return gold, stated[2]
    return None


def _in_order(golds: tuple[str, ...], candidates: tuple[str, ...]) -> bool:
    """Whether the order counts: only the gold has names, as in `x=1,y=2`, which `1,2` answers but `2,1` does not."""
    names = [match[1] for part in golds if (match := _ASSIGNED.fullmatch(part))]
    return len(set(names)) > 1 and not any(_EQUALS.search(part) for part in candidates)


def _same_digits(gold: str, candidate: str) -> bool | None:
    """Whether two numerals, one or both with a base, have the same digits and no different bases; else None."""
    given, stated = _BASED.fullmatch(gold), _BASED.fullmatch(candidate)
    if not (given or stated):
        return None
    digits = [match[1] if match else text for match, text in ((given, gold), (stated, candidate))]
    bases = {match[2] or match[3] for match in (given, stated) if match}
    return digits[0] == digits[1] and len(bases) == 1


def _without_percent(value: Fraction, unit: str) -> Fraction:
    return value / 100 if unit == "%" else value


def _as_latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    whole = value.denominator == 1
    return f"{value}" if whole else f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _weakest(reasons: list[str]) -> str:
    """The reason for the whole, from the reasons of its parts."""
    wrong = [reason for reason in reasons if reason not in RIGHT]
    return wrong[0] if wrong else max(reasons, key=RIGHT.index)


def _may_be_asked(text: str) -> bool:
    return text.isascii() and text.isprintable() and not _NEVER_ASKED.search(text)
