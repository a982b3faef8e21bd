"""A text's words, however they are written, so that private text is recognised in another; and what a text hides."""

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_SPELT = re.compile(r"(?:(?<![^\W_])[^\W_](?:[\W_]{1,3}(?=[^\W_](?![^\W_])))){3,}[^\W_](?![^\W_])")
_COMMAND = re.compile(r"\\[A-Za-z]+")

# Controls, formats (zero-width, bidirectional, tags, soft hyphen), surrogates, private use, unassigned.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
MOST_MARKS = 3  # combining marks in a row that a script may need
_RUN = re.compile(r"[^\W\d_]+")
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")  # whose letters look alike


def plain(text: str) -> str:
    """The text without accents and case, and with one form of each letter (full-width letters, ligatures)."""
    letters = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", "".join(c for c in letters if unicodedata.category(c) != "Mn")).casefold()


def readings(text: str) -> tuple[str, ...]:
    r"""The text itself and, if it has LaTeX commands, the text without them: \text{fever} is also read as fever."""
    bare = _COMMAND.sub(" ", text)
    return (text,) if bare == text else (text, bare)


def words(text: str) -> list[str]:
    """Runs of letters and digits in the `plain` text; a word that is spelt out (c a n a r y) is joined."""
    joined = _SPELT.sub(lambda match: "".join(_WORD.findall(match[0])), plain(text))
    return _WORD.findall(joined)


def spelt_out(text: str) -> bool:
    """Whether a word is spelt out somewhere."""
    return _SPELT.search(plain(text)) is not None


def letters_and_digits(text: str) -> str:
    """Only the letters and digits of the `plain` text."""
    return "".join(_WORD.findall(plain(text)))


def hides_something(text: str) -> bool:
    """Whether `text` has invisible characters, piles of accents, or words that mix letters of scripts that look alike.

    A single Greek letter among Latin ones is notation (2πr, μg), not a disguise.
    """
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MOST_MARKS or (category in HIDDEN and character not in "\n\t\r"):
            return True
        if 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF:  # variation selectors
            return True
    return any(_mixed(run) for run in _RUN.findall(unicodedata.normalize("NFKC", text)))


def _mixed(run: str) -> bool:
    if run.isascii() or len(run) < 3:
        return False
    scripts = [unicodedata.name(character, "").split(" ")[0] for character in run]
    used = {script for script in scripts if script in SCRIPTS}
    return len(used) > 1 and not (used == {"LATIN", "GREEK"} and scripts.count("GREEK") == 1)
