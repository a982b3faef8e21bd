"""Text that comes from elsewhere: what may be a name, and how any of it is shown.

A label, a tensor's name or an error's words may hold what moves a terminal's cursor, turns the direction of the text
behind it, or is not seen at all. A name with such a character is refused where it comes in. Everything else is shown
without them.
"""

import re
import sys
import unicodedata

MAX_NAME = 200  # characters

# Controls (escape sequences begin with one), formats (bidirectional, zero-width, tags), half surrogate pairs, private
# use, unassigned, and the two separators that some programs take for line ends.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Persian, Indic scripts and emoji need a zero-width joiner or non-joiner between two of their characters.
_JOINED = re.compile("(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")


def check_name(text: str) -> str:
    """The same text. Raises ValueError, which does not quote it, where it is too long for a name or not printable."""
    if len(text) > MAX_NAME:
        raise ValueError(f"{len(text)} characters long, expected at most {MAX_NAME}")
    hidden = _hidden(text)
    if hidden:
        raise ValueError(f"character {min(hidden) + 1} is a control or another character that is not shown")
    return text


def printable(text: str) -> str:
    """The text with a space in place of each character that is not shown; line ends stay."""
    hidden = _hidden(text)
    return "".join(" " if place in hidden and c != "\n" else c for place, c in enumerate(text)) if hidden else text


def one_line(text: str) -> str:
    """The `printable` text without line ends, so that nobody can write what looks like a line of ours."""
    return " ".join(printable(text).split())


def counted(count: int, noun: str) -> str:
    """ "1 round", "2 rounds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_error(text: object) -> None:
    print(printable(f"error: {text}"), file=sys.stderr)


def _hidden(text: str) -> set[int]:
    """The places of all characters that are not shown."""
    if text.isprintable():
        return set()
    joiners = {match.start() for match in _JOINED.finditer(text)}
    return {place for place, c in enumerate(text) if unicodedata.category(c) in HIDDEN} - joiners
