"""Short mathematical answers in LaTeX: a normal form for what can be written in many ways, and an answer's parts."""

import re
from typing import NamedTuple

MAX_PARTS = 10
MAX_GROUPING = 3  # nested brackets around one expression that are removed

# (a part of every match, so that most patterns need not be tried; pattern; replacement)
_REWRITES = [
    (sign, re.compile(pattern), replacement)
    for sign, pattern, replacement in (
        ("\\displaystyle", r"\\displaystyle(?![A-Za-z])", " "),
        ("\\left", r"\\left(?:\.|(?![A-Za-z]))", ""),
        ("\\right", r"\\right(?:\.|(?![A-Za-z]))", ""),
        ("\\", r"\\[bB]igg?[lr]?(?![A-Za-z])", ""),
        ("frac", r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        ("binom", r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        ("{", r"\\(?:mathrm|textrm|textbf|textit|textnormal|mbox) ?\{", r"\\text{"),
        (",", r"([0-9])(?:\{,\}|,\\!|\\,)([0-9]{3})(?![0-9])", r"\1\2"),
        (",", r"([0-9])(?:\{,\}|,\\!|\\,)([0-9]{3})(?![0-9])", r"\1\2"),  # again: matches cannot overlap
        ("\\!", r"\\!", ""),
        ("\\", r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z]))", " "),
        ("~", r"~", " "),
        ("\\text", r"\\text\{([^A-Za-z{}]*)\}", r"\1"),
        ("", r"\s+", " "),
        ("and", r" ?,? ?(?:\\text\{ ?and ?\}|(?<![A-Za-z\\])and(?![A-Za-z])) ?", ","),
        ("or", r" ?,? ?(?:\\text\{ ?or ?\}|(?<![A-Za-z\\])or(?![A-Za-z])) ?", ","),
        ("\\frac", r"\\frac ?([0-9]) ?([0-9])(?![0-9])", r"\\frac{\1}{\2}"),
        ("\\frac", r"\\frac ?([0-9]) ?\{", r"\\frac{\1}{"),
        ("\\frac", r"(\\frac\{[^{}]*\}) ?([0-9])", r"\1{\2}"),
        ("\\sqrt", r"\\sqrt ?([0-9])", r"\\sqrt{\1}"),
        ("^{", r"\^\{(\\circ|[0-9A-Za-z])\}", r"^\1"),
        ("_{", r"_\{([0-9A-Za-z])\}", r"_\1"),
        # A space matters only between letters and digits, and after the comma of "100, 200".
        (" ", r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])", ""),
        (", ", r", (?![0-9]{3}(?![0-9]))", ","),
    )
]
_WRAPS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_BRACKET = re.compile(r"\\begin(?![A-Za-z])|\\end(?![A-Za-z])|\\.|[()\[\]{},;]", re.DOTALL)
_OPENING, _CLOSING = ("(", "[", "{", "\\{", "\\begin"), (")", "]", "}", "\\}", "\\end")
_PLUS_MINUS = re.compile(r"\\pm ?(?![A-Za-z])")
_AROUND = ("(", "[", "{", "\\{")
_TRANSLATED = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u00b0": "^\\circ"})


class Shape(NamedTuple):
    """An answer's outer form: the brackets around it ("" for none) and the parts between its commas."""

    opening: str
    closing: str
    parts: tuple[str, ...]


def normalised(text: str) -> str:
    """The normal form of an answer: no spacing, sizing or style commands, no `$` around it, no full stop after it.

    Linear in the length. Values are not computed: 1/2 and 0.5 stay different.
    """
    text = text.translate(_TRANSLATED).strip().removesuffix(".").rstrip()
    for opening, closing in _WRAPS:
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if inner and "$" not in inner:
                text = inner.strip().removesuffix(".")
                break
    for sign, pattern, replacement in _REWRITES:
        if sign in text:
            text = pattern.sub(replacement, text)
    return text.strip()


def shape(text: str) -> Shape:
    """The outer form of an answer in normal form. Parentheses and braces around a single expression are grouping.

    Without brackets, `a\\pm b` counts as two answers, a+b and a-b.
    """
    for _ in range(MAX_GROUPING):
        enclosed, _, inner = _commas(text)
        if not (enclosed and not inner and text[0] + text[-1] in ("()", "{}")):
            break
        text = text[1:-1]
    enclosed, outer, inner = _commas(text)
    if not enclosed or (text[0] == "{" and not inner):
        return Shape("", "", tuple(signed for part in _split_at(text, 0, outer) for signed in _both_signs(part)))
    width = 2 if text[0] == "\\" else 1
    opening, closing = text[:width], text[-2:] if text.endswith("\\}") else text[-1:]
    body = text[: -len(closing)]
    if opening + closing == "{}":  # people write {1,2} for the set
        opening, closing = "\\{", "\\}"
    return Shape(opening, closing, _split_at(body, width, inner))


def _commas(text: str) -> tuple[bool, list[int], list[int]]:
    """Whether one pair of brackets encloses the whole text; the commas outside all brackets; those inside one pair."""
    depth, closed_at, places = 0, -1, ([], [])
    for token in _BRACKET.finditer(text):
        mark = token.group()
        if mark in _OPENING:
            depth += 1
        elif mark in _CLOSING:
            depth -= 1
            if depth == 0 and closed_at < 0:
                closed_at = token.end()
        elif mark in ",;" and 0 <= depth <= 1:
            places[depth].append(token.start())
    return text.startswith(_AROUND) and closed_at == len(text), *places


def _split_at(text: str, begin: int, commas: list[int]) -> tuple[str, ...]:
    starts = [begin, *(comma + 1 for comma in commas)]
    return tuple(text[a:b].strip() for a, b in zip(starts, [*commas, len(text)], strict=True))


def _both_signs(part: str) -> tuple[str, ...]:
    return (part,) if part.count("\\pm") != 1 else tuple(_PLUS_MINUS.sub(sign, part) for sign in "+-")
