"""How texts are compared where a private one must be recognised in another: by their words, however written."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_SPELT = re.compile(r"(?:(?<![^\W_])[^\W_](?:[\W_]{1,3}(?=[^\W_](?![^\W_])))){3,}[^\W_](?![^\W_])")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def plain(text: str) -> str:
    """Compatibility forms unified (full-width letters, ligatures), accents and case gone."""
    letters = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", "".join(c for c in letters if unicodedata.category(c) != "Mn")).casefold()


def readings(text: str) -> tuple[str, ...]:
    r"""The text as it stands and, where there is LaTeX in it, without the commands: \text{fever} is read as fever."""
    bare = _COMMAND.sub(" ", text)
    return (text,) if bare == text else (text, bare)


def words(text: str) -> list[str]:
    """Runs of letters and digits in `plain` text; one that is spelt out (c a n a r y) counts as written together."""
    joined = _SPELT.sub(lambda match: "".join(_WORD.findall(match[0])), plain(text))
    return _WORD.findall(joined)


def spelt_out(text: str) -> bool:
    """Whether letters stand apart somewhere."""
    return _SPELT.search(plain(text)) is not None


def squeezed(text: str) -> str:
    """Nothing but the letters and digits."""
    return "".join(_WORD.findall(plain(text)))
