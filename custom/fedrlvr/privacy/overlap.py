"""Whether a text repeats a site's private problems: by sequences of words, and by identifiers.

Only keyed hashes are kept, with a key of this process, so that the index itself reveals nothing.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence

from fedrlvr.privacy.text import letters_and_digits, readings, spelt_out, words
from fedrlvr.types import Problem

LEAST_WORDS = 3  # a shorter private text is not looked for: anybody may write it
# The least length of an identifier (of a person or a record): a word with letters and digits, or digits alone.
IDENTIFIER, NUMBER = 5, 7
HEAD = 12  # a word sequence of at least so many letters is also looked for in text without blanks


class PrivateIndex:
    """Sequences of `ngram` words (all words of a shorter text) and identifiers, found however they are broken up.

    They are those of the private problems' questions, options and answers, without what is also in a public problem.
    With `ngram` 0 there are none. `heads` are the first `HEAD` letters of the word sequences, `lengths` their lengths
    in words, `widths` in characters; `sizes` are the identifiers' lengths in characters.
    """

    def __init__(self, private: Iterable[Problem], public: Iterable[Problem], ngram: int):
        self._key = secrets.token_bytes(16)
        shingles: dict[bytes, tuple[int, int, bytes]] = {}  # length, width, head
        identifiers: dict[bytes, int] = {}
        for text in _texts(private) if ngram else ():
            spoken = words(text)
            size = min(len(spoken), ngram)
            if size >= min(LEAST_WORDS, ngram):
                grams = list(_windows(spoken, size))
                shingles |= {self._hash(gram): (size, len(gram), self._hash(gram[:HEAD])) for gram in grams}
            identifiers |= {self._hash(name): len(name) for name in _identifiers(text, spoken)}
        lengths = {length for length, _, _ in shingles.values()}
        for text in _texts(public) if ngram else ():
            spoken = words(text)
            for known in self._hashes(spoken, lengths):
                shingles.pop(known, None)
            for name in _identifiers(text, spoken):
                identifiers.pop(self._hash(name), None)
        self.shingles, self.identifiers = frozenset(shingles), frozenset(identifiers)
        self.heads = {head for _, width, head in shingles.values() if width >= HEAD}
        self.lengths = {length for length, _, _ in shingles.values()}
        self.widths = {width for _, width, _ in shingles.values()}
        self.sizes = set(identifiers.values())

    def shared(self, text: str) -> int:
        """How many different sequences and identifiers of private problems are in `text`, also read backwards."""
        grams, names = set(), set()
        for reading in readings(text):
            spoken, letters = words(reading), letters_and_digits(reading)
            grams |= self._hashes(spoken, self.lengths)
            if spelt_out(reading):  # then nobody knows where a word ends
                grams |= self._hashes(letters, self.widths)
            for way in (letters, letters[::-1]):
                grams |= self._where_heads_are(way)
                # Only letters and digits are left, so an identifier is found however it is spaced or hyphenated.
                names |= self._hashes(way, self.sizes)
        return len(grams & self.shingles) + len(names & self.identifiers)

    def _where_heads_are(self, letters: str) -> set[bytes]:
        """Hashes of the letters at each place where a word sequence may begin, one for each width of a sequence."""
        places = (n for n, head in enumerate(_windows(letters, HEAD)) if self._hash(head) in self.heads)
        return {self._hash(letters[n : n + width]) for n in places for width in self.widths}

    def _hashes(self, parts: Sequence[str], sizes: Iterable[int]) -> set[bytes]:
        return {self._hash(window) for size in sizes for window in _windows(parts, size)}

    def _hash(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=8).digest()


def _texts(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        asked = [message.content for message in problem.messages if message.role != "system"]
        for text in (problem.prompt, *asked, *problem.choices, problem.answer):
            yield from readings(text)


def _windows(parts: Sequence[str], size: int) -> Iterator[str]:
    """Each `size` parts in a row, joined."""
    return ("".join(parts[start : start + size]) for start in range(len(parts) - size + 1))


def _identifiers(text: str, spoken: Sequence[str]) -> Iterator[str]:
    """Words with a digit, and runs without a blank such as zx-4711-kilo; only their letters and digits."""
    for name in {*spoken, *map(letters_and_digits, text.split())}:
        digits = sum(character.isdigit() for character in name)
        if digits and len(name) >= (NUMBER if digits == len(name) else IDENTIFIER):
            yield name
