"""Whether two mathematical answers are equal: decided here where that is exact and cheap, else by math-verify.

math-verify alone is too generous to be a reward: it accepts `1 2 3 4` for 10, `4=5` for 5, `\\{1,2\\}` for (1,2). So
the shapes are compared here, part by part, and math-verify compares single expressions only.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction

from fedrlvr.tasks.intervals import interval
from fedrlvr.tasks.latex import normalised
from fedrlvr.tasks.numbers import is_calculation, number
from fedrlvr.tasks.shapes import Shape, assigned, equations, shape
from fedrlvr.tasks.units import quantity
from fedrlvr.tasks.words import folded, same_words

EXACT, EQUAL, MATH_VERIFY, WRONG, UNEVALUATED = "exact", "equal", "math-verify", "wrong", "unevaluated"
RIGHT = (EXACT, EQUAL, MATH_VERIFY)
MAX_NESTING = 4
MAX_UNMATCHED = 10  # parts of a list that are compared each with each; those with the same text or value are many more
MAX_COMPARISONS = 400  # of parts, for one answer

Ask = Callable[[str, str], str]  # (gold, candidate) -> "equal", "different", or why there is no answer

_BASED = re.compile(r"\(?([0-9][0-9A-F]*)\)?_(?:\{([0-9]+)\}|([0-9]))")
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_SETS = re.compile(r"(?:[(\[]|\\\{|\\mathbb\{|\\emptyset).*(?:[)\]]|\}|\\emptyset)", re.DOTALL)
_OF_SETS = re.compile(r"\\(?:cup|cap|setminus|mathbb)(?![A-Za-z])")
_INTEGRAL = re.compile(r"(.+)\+[Cc]", re.DOTALL)
_IMPROPER = re.compile(r"-?[0-9]+\\frac\{[0-9]+\}\{[0-9]+\}")
_CONJUNCTION = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])")
_VALUE = re.compile(r"[0-9=]")
_INEQUALITY = re.compile(r"[<>\u2260\u2264\u2265]|\\(?:[gln]eq?|[gl]eqslant|[gl]t)(?![A-Za-z])")
_LETTER = re.compile(r"\\text\{ ?([A-Za-z]) ?\}")
_SPACE = re.compile(r"(?<=[\^_][A-Za-z0-9]) (?=[A-Za-z])")
_CROSS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]+ ?\\times ?[A-Za-z](?![A-Za-z])")
# What math-verify overlooks, misreads or should not see.
_NEVER_ASKED = re.compile(
    r"\$|\\(?:boxed|fbox|text|approx|sim|ldots|ne|not|input|include|equiv|pmod|mid|angle|triangle)(?![A-Za-z])"
    r"|\\(?:(?:vec|hat)\{[^{}]{1,9}\}|nabla) ?\\(?:times|cdot)|(?<![A-Za-z\\])[A-Zf-h]\^\{-1\}\("
    r"|\\frac\{(?:d|\\partial)[^{}]{0,9}\}\{(?:d ?\\?[a-z]|\\partial)"
    r"|\\(?:sum|prod|lim)(?:\^.{1,40})?_\{ ?([a-z]) ?(?:=|\\to).{1,99}_(?:\1|\{[^{}=]{0,9}\1)"  # of names with an index
    r"|[0-9] [0-9.]|:|!!|(?<!matrix\})\^T|[A-Z] ?[A-Z]\^\{-1\}|[A-Z]\^\{-1\} ?[A-Z]"
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
    if _and_for_or(gold, candidate):
        return WRONG
    return _Comparison(ask, allow_expressions).compare(normalised(gold), normalised(candidate))


def _and_for_or(gold: str, candidate: str) -> bool:
    """Whether one answer says "and" where the other says "or", of words or inequalities. In a list of values they mean
    the same."""
    if ("and" in gold) == ("and" in candidate):
        return False
    if {*_CONJUNCTION.findall(gold)} ^ {*_CONJUNCTION.findall(candidate)} != {"and", "or"}:
        return False
    return bool(_INEQUALITY.search(gold + candidate)) or not _VALUE.search(gold + candidate)


class _Comparison:
    """One comparison of texts in normal form. Every method returns a reason, as `agreement`."""

    def __init__(self, ask: Ask, allow_expressions: bool):
        self.ask = ask
        self.allow_expressions = allow_expressions
        self.left = MAX_COMPARISONS

    def compare(self, gold: str, candidate: str, nesting: int = 0) -> str:
        self.left -= 1
        if gold == candidate:
            return EXACT
        if not candidate or nesting > MAX_NESTING or self.left < 0:
            return WRONG
        if (same := same_words(gold, candidate)) is not None:
            return EQUAL if same else WRONG
        if number(gold) is not None and number(candidate) is not None:  # 1,000 is no list
            return self.expressions(gold, candidate)
        if (values := _values(gold, candidate)) is not None:
            return self.compare(*values, nesting + 1)
        outer, other = shape(gold), shape(candidate)
        if (sets := _intervals(gold, candidate, outer, other)) is not None:
            return self.compare(*sets, nesting + 1)
        if _OF_SETS.search(gold + candidate) and _SETS.fullmatch(gold) and _SETS.fullmatch(candidate):
            return self.asked(gold, candidate)
        if (joined := _without_thousands(gold, candidate, outer, other)) is not None:
            return self.compare(*joined, nesting + 1)
        outer, other = _same_kind(outer, other)
        if outer[:2] != other[:2] or len(outer.parts) != len(other.parts):
            return WRONG
        if len(outer.parts) == 1 and not outer.opening:
            return self.single(outer.parts[0], other.parts[0])
        if outer.opening in ("", "\\{") and not _in_order(outer.parts, other.parts):
            return self.unordered(outer.parts, other.parts, nesting)
        return self.ordered(outer.parts, other.parts, nesting)

    def ordered(self, golds: tuple[str, ...], candidates: tuple[str, ...], nesting: int) -> str:
        found = []
        for gold, candidate in zip(golds, candidates, strict=True):
            found.append(self.compare(gold, candidate, nesting + 1))
            if found[-1] not in RIGHT:
                break
        return _weakest(found)

    def unordered(self, golds: tuple[str, ...], candidates: tuple[str, ...], nesting: int) -> str:
        """Each part of the gold needs its own part of the candidate. Those of the same text or value find it first."""
        free: dict[str | Fraction, list[str]] = defaultdict(list)
        for candidate in candidates:
            free[_key(candidate)].append(candidate)
        found, unmatched = [], []
        for gold in golds:
            if same := free[_key(gold)]:
                found.append(EXACT if gold == same.pop() else EQUAL)
            else:
                unmatched.append(gold)
        rest = [candidate for same in free.values() for candidate in same]
        if len(unmatched) > MAX_UNMATCHED:
            return WRONG
        for gold in unmatched:
            failure = WRONG
            for candidate in rest:
                reason = self.compare(gold, candidate, nesting + 1)
                if reason in RIGHT:
                    rest.remove(candidate)
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
        counts = equations(gold), equations(candidate)
        if counts == (0, 0):
            return self.expressions(gold, candidate)
        return self.asked(gold, candidate) if counts == (1, 1) else WRONG

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
        return self.asked(gold, candidate if answer is None else _as_latex(answer))

    def asked(self, gold: str, candidate: str) -> str:
        """What math-verify says; "wrong" for texts that it must not be asked about, unless they are the same words."""
        if (given := _INTEGRAL.fullmatch(gold)) and (stated := _INTEGRAL.fullmatch(candidate)):
            gold, candidate = given[1], stated[1]  # any constant of integration will do
        gold, candidate = (_SPACE.sub("", _LETTER.sub(r"\1", text)) for text in (gold, candidate))
        if gold == candidate:
            return EQUAL
        if "\\text" in gold + candidate:
            return EQUAL if folded(gold) == folded(candidate) else WRONG
        vectors = bool(_CROSS.search(gold) and _CROSS.search(candidate))  # or a size: the order counts
        if vectors or not (_may_be_asked(gold) and _may_be_asked(candidate)):
            return WRONG
        outcome = self.ask(gold, candidate)
        return {"equal": MATH_VERIFY, "different": WRONG}.get(outcome, outcome)


def _values(gold: str, candidate: str) -> tuple[str, str] | None:
    """The values alone, where `name=value` is compared with a value or with another value of the same name."""
    given, stated = assigned(gold), assigned(candidate)
    if given and stated and given[0] == stated[0]:
        return given[1], stated[1]
    if given and not stated and not equations(candidate):
        return given[1], candidate
    if stated and not given and not equations(gold):
        return gold, stated[1]
    return None


def _intervals(gold: str, candidate: str, outer: Shape, other: Shape) -> tuple[str, str] | None:
    """Intervals, where at least one answer is an inequality and no name differs."""
    given = interval(gold, outer.parts if not outer.opening else (gold,))
    stated = interval(candidate, other.parts if not other.opening else (candidate,))
    if given and stated:
        return (given[1], stated[1]) if given[0] == stated[0] else None
    if given and _SETS.fullmatch(candidate):
        return given[1], candidate
    return (gold, stated[1]) if stated and _SETS.fullmatch(gold) else None


def _without_thousands(gold: str, candidate: str, outer: Shape, other: Shape) -> tuple[str, str] | None:
    """Both without the commas between thousands, where only one would be a list, as 1,200\\pi beside 1200\\pi."""
    if outer.opening or other.opening or (len(outer.parts) == 1) == (len(other.parts) == 1):
        return None
    joined = tuple(_THOUSANDS.sub(lambda match: match[0].replace(",", ""), text) for text in (gold, candidate))
    return joined if joined != (gold, candidate) else None


def _same_kind(gold: Shape, candidate: Shape) -> tuple[Shape, Shape]:
    """Shapes to compare: a list is the set of its parts, and values in the order of their names are a tuple."""
    kinds = {gold.opening, candidate.opening}
    if kinds == {"", "\\{"} and len(gold.parts) > 1:
        return gold._replace(opening="", closing=""), candidate._replace(opening="", closing="")
    if gold.opening == "(" and not candidate.opening:
        named = [assigned(part) for part in candidate.parts]
        names = [pair[0] for pair in named if pair]
        if len(names) == len(named) > 1 and names == sorted(set(names)):
            return gold, Shape("(", gold.closing, tuple(value for _, value in named))
    return gold, candidate


def _in_order(golds: tuple[str, ...], candidates: tuple[str, ...]) -> bool:
    """Whether the order counts: only the gold has names, as in `x=1,y=2`, which `1,2` answers but `2,1` does not."""
    names = {pair[0] for part in golds if (pair := assigned(part))}
    return len(names) > 1 and not any(map(equations, candidates))


def _key(part: str) -> str | Fraction:
    value = number(part)
    return part if value is None else value


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
    return (
        text.isascii() and text.isprintable() and not _NEVER_ASKED.search(text) and not _IMPROPER.fullmatch(text)
    )  # 1\frac{3}{2} may be meant as a sum or a product
