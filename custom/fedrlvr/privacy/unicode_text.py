"""Characters by which a text can carry more than a reader sees."""

from __future__ import annotations

import re
import unicodedata

# Controls, formats (zero-width, bidirectional, tags, soft hyphen), surrogates, private use, unassigned.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
MOST_MARKS = 3  # combining marks in a row that a script may need
_RUN = re.compile(r"[^\W\d_]+")
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")  # whose letters pass for each other's


def hides_something(text: str) -> bool:
    """Whether `text` holds invisible characters, piles of accents, or words whose letters come from several scripts
    that look alike. Single Greek letters beside Latin ones are notation (2πr, μg), not disguise."""
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
