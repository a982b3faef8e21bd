"""Inequalities in one name, and the intervals that they describe, in normal form."""

import re

from fedrlvr.tasks.numbers import number

_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z]))")
_NAME = re.compile(r"(?!\\(?:pi|infty)(?![A-Za-z]))\\?[A-Za-z]+(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]+\}))?")
_REVERSED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_BELOW, _ABOVE = re.compile(r"\(-\\infty,(.+)([)\]])"), re.compile(r"([(\[])(.+),\\infty\)")
_BUILDER = re.compile(r"\\\{([A-Za-z])(?:\\in\\mathbb\{R\})?\\mid ?(.*)\\\}", re.DOTALL)


def interval(text: str, parts: tuple[str, ...]) -> tuple[str, str] | None:
    """The name and the set of intervals of inequalities, which are the parts of a text; None for anything else.

    `1<x\\le3` is `(1,3]`, `x<1` or `x>3` is `(-\\infty,1)\\cup(3,\\infty)`, `\\{x\\mid x>2\\}` is `(2,\\infty)`.
    """
    if not _RELATION.search(parts[0]):
        return None
    found = [_interval(part) for part in parts]
    if None in found or len({name for name, _ in found}) > 1:
        return None
    joined = _joined(text, [text for _, text in found])
    return (found[0][0], joined) if joined else None


def _joined(text: str, sets: list[str]) -> str | None:
    """The union of the sets beside "or". A comma or "and" means what has sense: all of x>0, x\\ne1, one of x<1, x>3."""
    unequal = "\\ne" in text
    if len(sets) == 1 or (";" in text and not unequal and "," not in text):
        return "\\cup".join(sets)
    if ";" in text:
        return None
    if unequal:
        return "\\cap".join(f"({one})" if "\\cup" in one else one for one in sets)
    below, above = (list(filter(None, map(pattern.fullmatch, sets))) for pattern in (_BELOW, _ABOVE))
    if not (len(sets) == 2 and below and above):
        return None
    low, high = number(above[0][2]), number(below[0][1])
    if low is None or high is None or low == high:
        return None
    return f"{above[0][1]}{above[0][2]},{below[0][1]}{below[0][2]}" if low < high else "\\cup".join(sets)


def _interval(text: str) -> tuple[str, str] | None:
    built = _BUILDER.fullmatch(text)
    terms = [term.strip() for term in _RELATION.split(built[2] if built else text)]
    if len(terms) == 3 and terms[1] == "\\ne" and _NAME.fullmatch(terms[0]):
        return terms[0], f"(-\\infty,{terms[2]})\\cup({terms[2]},\\infty)"
    if len(terms) not in (3, 5) or "\\ne" in terms[1::2] or not all(terms):
        return None
    if all(relation in (">", "\\ge") for relation in terms[1::2]):
        terms = [_REVERSED.get(term, term) for term in reversed(terms)]
    if not all(relation in ("<", "\\le") for relation in terms[1::2]):
        return None
    if len(terms) == 3:
        if _NAME.fullmatch(terms[0]) and _NAME.fullmatch(terms[2]):
            return None  # x<y bounds neither
        terms = [*terms, "<", "\\infty"] if _NAME.fullmatch(terms[2]) else ["-\\infty", "<", *terms]
    low, above, name, below, high = terms
    if not _NAME.fullmatch(name) or (built and built[1] != name):
        return None
    return name, f"{'(' if above == '<' else '['}{low},{high}{')' if below == '<' else ']'}"
