"""What tells one person or record from all others: numbers, codes and addresses, however they are grouped."""

import re

from fedrlvr.privacy.text import letters_and_digits, numbers_joined, plain, words

NUMBER, CODE, ADDRESS = 6, 5, 10  # the least length of digits alone, of letters with digits, of letters alone
CODE_DIGITS, CODE_PARTS = 4, 3  # a code has so many digits, or so many groups of letters with a digit after them
COUNTING = "01234567890123456789"
ANYWHERE = 8  # of at least this length, an identifier is also found inside other text

_JOINED = re.compile(r"[^\W_]+(?:[-/._:#@][^\W_]+)*")
_GROUPED = re.compile(r"(?<![^\W_])[^\W\d_]*+\d[^\W_]*+(?:[ \-/.][^\W\d_]*+\d[^\W_]*+)+")  # in linear time
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_])){4,}")
_PARTS = re.compile(r"[^\W\d_]\d")
_MARKED = re.compile(r"[\d@]|[.].*[.]")  # no identifier is without one of these
_POSTCODE = re.compile(r"[a-z]{1,2}\d[a-z\d]?\d[a-z]{2}")
_BETWEEN_WORDS = re.compile(r"[^\W\d_]{3,}\d{3,}[^\W\d_]{3,}")  # kilo-471-zulu
_MEASURE = re.compile(  # what anybody may come to:
    r"\d0+|\d{1,3}0{3,}"  # round numbers
    r"|\d+\.\d+[^\W\d_]*|\d{1,3}[-/]\d{1,3}"  # decimal fractions, ratios and ranges
    r"|\d+/?[^\W\d_]{1,4}\d?|\d{1,4}-?[^\W\d_]+"  # numbers with a unit
)


def identifiers(text: str) -> set[str]:
    """The identifiers of a private text: only their letters and digits."""
    return {letters_and_digits(run) for run in _runs(text, _JOINED, _GROUPED) if _is_identifier(run)}


def possible_identifiers(text: str) -> set[str]:
    """What an identifier may have become in an answer, where it may also be grouped otherwise, spelt out or
    written backwards."""
    spelt = (match[0] for match in _GROUPED.finditer(" ".join(words(text))))
    found = {letters_and_digits(run) for run in (*_runs(text, _JOINED, _GROUPED, _SPACED), *spelt)}
    return found | {run[::-1] for run in found}


def streams(text: str) -> tuple[str, str, str]:
    """Where a long identifier may be hidden: all letters and digits of a text, the same backwards, its digits alone."""
    letters = "".join(words(text)).replace(".", "")
    return letters, letters[::-1], "".join(character for character in letters if character.isdigit())


def _runs(text: str, *patterns: re.Pattern) -> list[str]:
    written = numbers_joined(plain(text))
    runs = [*words(text), *(match[0] for pattern in patterns for match in pattern.finditer(written))]
    return [run for run in runs if _MARKED.search(run)]


def _is_identifier(run: str) -> bool:
    name = letters_and_digits(run)
    digits = sum(character.isdigit() for character in name)
    if ("@" in run or run.count(".") > 1) and len(name) - digits >= ADDRESS:
        return True
    if _MEASURE.fullmatch(run) or name in COUNTING or set(name) <= {"0", "1"} or len(set(name)) == 1:
        return False
    if digits == len(name):
        return digits >= NUMBER
    is_code = digits >= CODE_DIGITS or len(_PARTS.findall(name)) >= CODE_PARTS
    return len(name) >= CODE and (is_code or any(form.fullmatch(name) for form in (_POSTCODE, _BETWEEN_WORDS)))
