"""Reading JSON that a person or another party wrote: whatever is wrong with it is one short line."""

import json
import math
import re
from collections.abc import Iterator

MAX_DEPTH = 100  # of lists and objects in each other; later steps, such as copying, hold fewer levels than the parser
_SHOWN = 80  # characters of a key in a message
_BLANK = re.compile(r"[ \t\r\n]*")


class JsonError(ValueError):
    """Text that is not JSON, or that different readers would read differently. It quotes at most a key."""


def from_json(text: str | bytes) -> object:
    """The value of `text`. Raises JsonError, also for a key that stands twice in one object, NaN and infinity, a number
    that Python does not read (over 4,300 digits), and nesting of more than MAX_DEPTH."""
    try:
        text = text if isinstance(text, str) else text.decode()
        value = _DECODER.decode(text)
        _check_depth(value, text)
        return value
    except (ValueError, RecursionError) as error:
        raise JsonError(_reason(error)) from None


def json_array(text: str) -> Iterator[tuple[int, object]]:
    """(line, value) of each value in the array `text`. Raises JsonError as `from_json`, beginning with the line."""
    line, counted = 1, 0
    place = _after_blanks(text, _after_blanks(text, 0) + 1)
    more = text[place : place + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = _DECODER.raw_decode(text, place)
            _check_depth(value, text[counted:place])
        except (ValueError, RecursionError) as error:
            raise JsonError(f"line {line}: {_reason(error)}") from None
        yield line, value
        place = _after_blanks(text, place)
        more = text[place : place + 1] == ","
        place = _after_blanks(text, place + more)
    if text[place:].strip() != "]":
        raise JsonError(f"line {line}: not valid JSON (expected , or the array's end after the value here)")


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong and what to do, for text in another encoding."""
    utf16 = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
    seems = "UTF-16" if utf16 else "another encoding, such as Latin-1"
    where = f"byte {error.start + 1} is {error.object[error.start]:#04x}"
    return f"cannot be read as UTF-8 ({where}): the file seems to be in {seems}; save it as UTF-8"


def shown(key: str) -> str:
    """A key as it may stand in a message."""
    return key if key.isprintable() and len(key) <= _SHOWN else f"{key!a:.{_SHOWN}}..."


def _check_depth(value: object, text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise RecursionError


def _after_blanks(text: str, place: int) -> int:
    return _BLANK.match(text, place).end()


def _reason(error: ValueError | RecursionError) -> str:
    match error:
        case JsonError():
            return str(error)
        case UnicodeDecodeError():
            return not_utf8(error)
        case json.JSONDecodeError():
            at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
            mark = ", a byte order mark" if error.doc[error.pos : error.pos + 1] == "\ufeff" else ""
            return f"not valid JSON ({error.msg.removesuffix(' at')} at {at}{mark})"
        case RecursionError():
            return "JSON that cannot be read (nested too deeply)"
    return "JSON that cannot be read (a number of too many digits)"  # int() says so


def _object(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        once: set[str] = set()
        twice = next(name for name, _ in pairs if name in once or once.add(name))
        raise JsonError(f"JSON that cannot be read (the key {shown(twice)} stands twice in one object)")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError("JSON that cannot be read (a number that no float holds)")
    return number


def _constant(name: str) -> float:
    raise JsonError(f"JSON that cannot be read ({name} is no JSON number)")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_constant)
