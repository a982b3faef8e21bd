"""Whether a text repeats a site's private problems: by sequences of words, and by identifiers.

Only keyed hashes are kept, the key of this process alone, so that the index itself tells nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fedrlvr.privacy.words import spelt_out, squeezed, words
from fedrlvr.types import Problem

LEAST_WORDS = 3  # a private text shorter than this says nothing that others would not say
# A word of letters and digits that is so long stands for a person or a record, as does a number of so many digits.
IDENTIFIER, NUMBER = 5, 7


@dataclass(frozen=True)
class PrivateIndex:
    """`ngram` words in a row, or all the words of a shorter text; and identifiers, in whatever way they are broken up.

    `lengths` are those of the word sequences, in words; `widths` the same in characters, and `sizes` the identifiers'.
    """

    key: bytes
    shingles: frozenset[bytes]
    identifiers: frozenset[bytes]
    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def build(cls, private: Iterable[Problem], public: Iterable[Problem], ngram: int) -> PrivateIndex:
        """An index of the private problems' questions, options and answers, without what stands in a public problem.
        With `ngram` 0 it is empty."""
        key = secrets.token_bytes(16)
        shingles: dict[bytes, tuple[int, int]] = {}
        identifiers: dict[bytes, int] = {}
        for text in _texts(private) if ngram else ():
            spoken = words(text)
            size = min(len(spoken), ngram)
            if size >= min(LEAST_WORDS, ngram):
                shingles |= {_hash(key, gram): (size, len(gram)) for gram in _windows(spoken, size)}
            identifiers |= {_hash(key, name): len(name) for name in _identifiers(text, spoken)}
        lengths = {length for length, _ in shingles.values()}
        for text in _texts(public) if ngram else ():
            spoken = words(text)
            for gram in (gram for size in lengths for gram in _windows(spoken, size)):
                shingles.pop(_hash(key, gram), None)
            for name in _identifiers(text, spoken):
                identifiers.pop(_hash(key, name), None)
        return cls(
            key,
            frozenset(shingles),
            frozenset(identifiers),
            tuple({length for length, _ in shingles.values()}),
            tuple({width for _, width in shingles.values()}),
            tuple(set(identifiers.values())),
        )

    def shared(self, text: str) -> int:
        """How many different sequences and identifiers of private problems stand in `text`."""
        spoken, letters = words(text), squeezed(text)
        grams = {_hash(self.key, gram) for size in self.lengths for gram in _windows(spoken, size)}
        if spelt_out(text):  # where words end is anybody's guess then
            grams |= {_hash(self.key, gram) for width in self.widths for gram in _windows(letters, width)}
        # At every place among letters and digits: an identifier is found however it is spaced or hyphenated.
        names = {_hash(self.key, name) for size in self.sizes for name in _windows(letters, size)}
        return len(grams & self.shingles) + len(names & self.identifiers)


def _texts(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        yield problem.prompt
        yield from (message.content for message in problem.messages if message.role != "system")
        yield from problem.choices
        yield problem.answer


def _windows(parts: Sequence[str], size: int) -> Iterator[str]:
    """`size` parts in a row, written together."""
    return ("".join(parts[start : start + size]) for start in range(len(parts) - size + 1))


def _identifiers(text: str, spoken: Sequence[str]) -> Iterator[str]:
    """Words with a digit in them, and runs without a blank such as zx-4711-kilo, as letters and digits only."""
    for name in {*spoken, *map(squeezed, text.split())}:
        digits = sum(character.isdigit() for character in name)
        if digits and len(name) >= (NUMBER if digits == len(name) else IDENTIFIER):
            yield name


def _hash(key: bytes, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), key=key, digest_size=8).digest()
