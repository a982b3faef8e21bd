"""What the columns of a data set may hold, and the cells of a row as values of these kinds.

Numbers in a column of answers or options are texts: they stay as the file writes them.
"""

import math
import re
from collections.abc import Callable

from fedrlvr.json_text import JsonError, from_json
from fedrlvr.tasks.choice import LETTERS

TEXT, LABEL, ANSWER, NUMBER = "text", "text or nothing", "text or a number", "a number"
NAME = "text, a number or nothing"
INTEGER, OPTION = "an integer", "an integer or a letter"
OPTIONS, TEXTS = "an object of the texts A, B, ...", "a list of texts"

_STRINGS, _INTEGERS = ("string", "large_string"), ("int", "uint")
_DTYPES = {  # how the types of a parquet or arrow column may begin, as `datasets` names them
    TEXT: _STRINGS,
    LABEL: _STRINGS,
    ANSWER: (*_STRINGS, *_INTEGERS, "float"),
    NAME: (*_STRINGS, *_INTEGERS, "float"),
    NUMBER: (*_INTEGERS, "float"),
    INTEGER: _INTEGERS,
    OPTION: (*_INTEGERS, *_STRINGS),
}
_EMPTY = {LABEL: "", NAME: "", NUMBER: None}  # these cells may be left out
_INTEGER = re.compile(r"-?\d{1,9}")


class CellError(ValueError):
    """A cell of another kind than its column's. It is not quoted."""


def is_of(feature: object, kind: str) -> bool:
    """Whether a column with this feature of `datasets` holds cells of the kind."""
    from datasets import List  # takes a second to import

    if kind == OPTIONS:
        return isinstance(feature, dict) and all(_is_value(text, ANSWER) for text in feature.values())
    if kind in (TEXTS, ANSWER) and isinstance(feature, List):
        return _is_value(feature.feature, ANSWER)
    return kind in _DTYPES and _is_value(feature, kind)


def _is_value(feature: object, kind: str) -> bool:
    from datasets import ClassLabel, Value

    return isinstance(feature, Value | ClassLabel) and feature.dtype.startswith(_DTYPES[kind])


def cell(value: object, kind: str) -> object:
    """`value` as a cell of the kind: a list of str for OPTIONS and TEXTS, an int for INTEGER, an int or a capital
    letter for OPTION, a float or None for NUMBER, else a str. Raises CellError."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        if kind in _EMPTY:
            return _EMPTY[kind]
        raise CellError("empty")
    found = _READERS[kind](value)
    if found is None:
        raise CellError(f"expected {kind}, found {type(value).__name__}")
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _plain(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return repr(value)
    return _text(value)


def _answer(value: object) -> str | None:
    if not isinstance(value, list):
        return _plain(value)
    if len(value) != 1:
        raise CellError(f"{len(value)} answers, expected one")
    return cell(value[0], ANSWER)


def _number(value: object) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None  # JSON has no other


def _integer(value: object) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _option(value: object) -> int | str | None:
    letter = value.strip().upper() if isinstance(value, str) else ""
    return letter if letter in LETTERS and len(letter) == 1 else _integer(value)


def _options(value: object) -> list[str] | None:
    value = _from_text(value)
    if not isinstance(value, dict):
        return None
    letters = {str(letter).strip().upper(): text for letter, text in value.items()}
    named = {letter: text for letter, text in letters.items() if text is not None}  # arrow adds keys of other rows
    if len(letters) < len(value) or "".join(sorted(named)) != LETTERS[: len(named)]:
        raise CellError("expected one option for each of the letters A, B, ... without a gap")
    return _texts([named[letter] for letter in sorted(named)])


def _texts(value: object) -> list[str] | None:
    value = _from_text(value)
    if not isinstance(value, list):
        return None
    if not value:
        raise CellError("empty")
    found = [None if isinstance(text, list) else cell(text, ANSWER) for text in value]
    return None if None in found else found


def _from_text(value: object) -> object:
    """A CSV file has objects and lists as JSON."""
    try:
        return from_json(value) if isinstance(value, str) else value
    except JsonError:
        return value


_READERS: dict[str, Callable] = {
    TEXT: _text,
    LABEL: _text,
    ANSWER: _answer,
    NAME: _plain,
    NUMBER: _number,
    INTEGER: _integer,
    OPTION: _option,
    OPTIONS: _options,
    TEXTS: _texts,
}
