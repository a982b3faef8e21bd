"""The outer form of an answer in normal form: the brackets around it, the parts between its commas, and its name."""

import re
from typing import NamedTuple

from fedrlvr.tasks.latex import FUNCTIONS
from fedrlvr.tasks.numbers import number

MAX_GROUPING = 3  # nested brackets around one expression that are removed

_MARK = re.compile(r"\\begin(?![A-Za-z])|\\end(?![A-Za-z])|\\.|(?<![<>!:=])=(?!=)|[()\[\]{},;]", re.DOTALL)
_OPENING, _CLOSING = ("(", "[", "{", "\\{", "\\begin"), (")", "]", "}", "\\}", "\\end")
_AROUND = ("(", "[", "{", "\\{")
_PLUS_MINUS = re.compile(r"\\(?:pm|mp) ?(?![A-Za-z])")
_IN = re.compile(r"\\in(?![A-Za-z]) ?")

# What an answer may call itself: x, x_1, f', \theta, AB, \angle ABC, \vec{v}, \text{Area}, and with an argument f(x),
# P(X=2). Two small letters are a product, and so is a(b+c): no names.
_KNOWN = rf"(?!\\?(?:{FUNCTIONS}|min|sqrt|frac)(?![A-Za-z]))"  # functions, which are no names
_WORD = (
    rf"(?:\\(?:angle|triangle) ?)?{_KNOWN}(?:\\[A-Za-z]+(?:\{{[A-Za-z0-9 ]+\}})?"
    r"|[A-Za-z](?![A-Za-z])|[A-Z]{2,4}(?![A-Za-z])|[A-Z]?[a-z]{4,20})(?:_(?:[A-Za-z0-9]|\{[^{}=]{1,12}\}))?'{0,3}"
)
_FUNCTION = (
    _KNOWN
    + r"(?:[f-hpqruA-Z]|\\?[A-Za-z]{2,12})(?:_[A-Za-z0-9])?'{0,3}(?:\^\{-1\})?(?:\([^()]{1,20}\)|\[[^\[\]]{1,20}\])"
)
_NAMES = re.compile(
    rf"(?:m ?)?{_WORD}(?:\([A-Za-z]\))?|{_FUNCTION}|\|[A-Z]{{2}}\||\(?{_WORD}(?:,{_WORD}){{1,9}}\)?"
    r"|\\frac\{(?:d|\\partial) ?[A-Za-z]\}\{(?:d|\\partial) ?[A-Za-z]\}"
)


class Shape(NamedTuple):
    """An answer's outer form: the brackets around it ("" for none) and the parts between its commas."""

    opening: str
    closing: str
    parts: tuple[str, ...]


class _Outline(NamedTuple):
    """Whether one pair of brackets encloses the whole text; the places of `,` and `;` outside all brackets and inside
    one pair; the places of `=` outside all brackets."""

    enclosed: bool
    outer: list[int]
    inner: list[int]
    equals: list[int]


def shape(text: str) -> Shape:
    """The outer form of an answer in normal form. Parentheses and braces around a single expression are grouping.

    Without brackets, and in a set, `a\\pm b` counts as two answers, a+b and a-b. Beside a `;` a comma may set thousands
    apart.
    """
    outline = _outline(text)
    for _ in range(MAX_GROUPING):
        if not (outline.enclosed and not outline.inner and text[0] + text[-1] in ("()", "{}")):
            break
        text = text[1:-1]
        outline = _outline(text)
    if not outline.enclosed or (text[0] == "{" and not outline.inner):
        chunks = _split_at(text, 0, [place for place in outline.outer if text[place] == ";"])
        if len(chunks) > 1:
            parts = tuple(part for chunk in chunks for part in _listed(chunk))
        else:
            parts = _split_at(text, 0, outline.outer)
        return Shape("", "", _both_signs(parts))
    width = 2 if text[0] == "\\" else 1
    opening, closing = text[:width], text[-2:] if text.endswith("\\}") else text[-1:]
    parts = _split_at(text[: -len(closing)], width, outline.inner)
    if opening + closing == "{}":  # people write {1,2} for the set
        opening, closing = "\\{", "\\}"
    return Shape(opening, closing, _both_signs(parts) if opening == "\\{" else parts)


def equations(text: str) -> int:
    """How many `=` stand outside all brackets."""
    return len(_outline(text).equals) if "=" in text else 0


def assigned(text: str) -> tuple[str, str] | None:
    """The name and the value of `name=value`, `value=name`, `(x,y)=value`, `name\\in value`; None for anything else."""
    if "=" not in text and "\\in" not in text:
        return None
    places = _outline(text).equals
    if len(places) == 1:
        left, right = text[: places[0]], text[places[0] + 1 :]
        if _NAMES.fullmatch(left) and right:
            return left, right
        return (right, left) if number(left) is not None and _NAMES.fullmatch(right) else None
    member = _IN.search(text)
    if member and not places and _NAMES.fullmatch(text[: member.start()]):
        return text[: member.start()], text[member.end() :]
    return None


def _outline(text: str) -> _Outline:
    depth, closed_at, places, equals = 0, -1, ([], []), []
    for token in _MARK.finditer(text):
        mark = token.group()
        if mark in _OPENING:
            depth += 1
        elif mark in _CLOSING:
            depth -= 1
            if depth == 0 and closed_at < 0:
                closed_at = token.end()
        elif mark in ",;" and 0 <= depth <= 1:
            places[depth].append(token.start())
        elif mark == "=" and depth == 0:
            equals.append(token.start())
    return _Outline(text.startswith(_AROUND) and closed_at == len(text), *places, equals)


def _split_at(text: str, begin: int, places: list[int]) -> tuple[str, ...]:
    starts = [begin, *(place + 1 for place in places)]
    return tuple(text[a:b].strip() for a, b in zip(starts, [*places, len(text)], strict=True))


def _listed(chunk: str) -> tuple[str, ...]:
    """The parts of what stands beside a `;`: a numeral is one, whatever its commas."""
    return (chunk,) if number(chunk) is not None else _split_at(chunk, 0, _outline(chunk).outer)


def _both_signs(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        signed
        for part in parts
        for signed in (
            [_PLUS_MINUS.sub(sign, part) for sign in "+-"] if part.count("\\pm") + part.count("\\mp") == 1 else [part]
        )
    )
