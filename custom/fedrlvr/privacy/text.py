"""A text's words, in whatever letters they are written, so that private text is recognised in another."""

import re
import unicodedata

from confusable_homoglyphs import confusables

from fedrlvr.printable import HIDDEN

_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,;:! ]|\{,\}|,(?=\d{3}(?!\d)))(?=\d)")
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")
_LETTER = re.compile(r"\bLETTERS? (?:SMALL CAPITAL |TURNED |REVERSED |OPEN )*([A-Z])(?: WITH .*)?$")

BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"  # letters and symbols that show nothing
MOST_MARKS = 3  # combining marks in a row that a script may need
# Scripts that put no blanks between words: Thai to Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3005\u3041-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]{4,}")
_RUN = re.compile(r"[^\W\d_]+")
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")  # whose letters look alike
# Letters and signs in which nobody writes an answer, but in which Latin text can be written.
_COSTUME = re.compile(r"[\u0250-\u02af\u1d00-\u1d2b\ua720-\ua7ff\u2800-\u28ff\U0001f100-\U0001f1ff]|\u01dd")

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_DIGITS = {word: str(number) for number, word in enumerate(f"{_NUMBER_WORDS} seventeen eighteen nineteen".split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_DIGITS |= {word: f"{tens}0" for tens, word in enumerate(_TENS.split(), start=2)}


class _Folds(dict):
    """Code point -> what stands for it in `plain` text, made when it is first asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def _fold(character: str) -> str:
    if character.isascii():
        return character.lower()
    if unicodedata.category(character) in ("Mn", "Cf") or character in BLANK_LETTERS:
        return ""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    name = unicodedata.name(character, "")
    named = _LETTER.search(name)
    if named and ("LATIN" in name or unicodedata.category(character) == "So"):
        return named[1].lower()
    alike = (other["c"].lower() for other in confusables.confusables_data.get(character, ()))
    return next((other for other in alike if len(other) == 1 and other.isascii() and other.isalnum()), character)


_FOLDS = _Folds()


def plain(text: str) -> str:
    """The text in lower case, without accents and characters that show nothing, with one form of each letter and digit:
    those of other widths, shapes and alphabets that look like a Latin one (Unicode's table) are that one."""
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", letters.translate(_FOLDS))


def numbers_joined(text: str) -> str:
    """The text with numbers that are grouped as in 1,000 in one piece."""
    return _THOUSANDS.sub("", text)


def words(text: str) -> list[str]:
    """Runs of letters and digits, and decimal numbers, in the `plain` text. English number words are digits, and digits
    that are grouped as in 1,000 are one number. Where a script has no blanks, three letters in a row are a word."""
    spoken = numbers_joined(plain(text)).replace("&", " and ")
    found = _WORD.findall(spoken if spoken.isascii() else _UNSPACED.sub(_three_by_three, spoken))
    return [_DIGITS.get(word, word) for word in found]


def _three_by_three(run: re.Match) -> str:
    letters = run[0]
    return " ".join(("", *map("".join, zip(letters, letters[1:], letters[2:], strict=False)), ""))


def letters_and_digits(text: str) -> str:
    """Only the letters and digits of the `plain` text."""
    return "".join(character for character in plain(text) if character.isalnum())


def hides_something(text: str) -> bool:
    """Whether `text` has invisible characters, piles of accents, words that mix letters of scripts that look alike,
    words of nothing but such letters, or letters that only dress Latin ones up (turned, small capitals, Braille).

    A single Greek letter among Latin ones is notation (2πr, μg), not a disguise.
    """
    if text.isascii():
        return any(c not in "\n\t\r" and unicodedata.category(c) in HIDDEN for c in set(text))
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MOST_MARKS or (category in HIDDEN and character not in "\n\t\r"):
            return True
        if 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF:  # variation selectors
            return True
    if _COSTUME.search(text) or any(character in BLANK_LETTERS for character in text):
        return True
    runs = [run for run in _RUN.findall(unicodedata.normalize("NFKC", text)) if not run.isascii()]
    return any(_mixed(run) for run in runs) or _borrowed(runs)


def _borrowed(runs: list[str]) -> bool:
    """Whether there is a word in another alphabet, and all words in it have only letters that look like Latin ones."""
    foreign = [run for run in runs if _script(run[0]) in SCRIPTS[1:]]
    return any(len(run) > 2 for run in foreign) and "".join(map(plain, foreign)).isascii()


def _mixed(run: str) -> bool:
    if len(run) < 3:
        return False
    scripts = [_script(character) for character in run]
    used = {script for script in scripts if script in SCRIPTS}
    return len(used) > 1 and not (used == {"LATIN", "GREEK"} and scripts.count("GREEK") == 1)


def _script(character: str) -> str:
    return unicodedata.name(character, "").split(" ")[0]
