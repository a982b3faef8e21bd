"""Whether a text repeats a site's private problems: words in a row, rare words in any order, identifiers.

What belongs to one private problem, or very few, is a secret; the language of everybody and of the field is none.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from fedrlvr.privacy.identifiers import ANYWHERE, possible_identifiers, streams
from fedrlvr.privacy.private_words import MANY, PrivateWords
from fedrlvr.privacy.readings import readings
from fedrlvr.privacy.text import words
from fedrlvr.types import Problem

ORDINARY = 15  # letters; in a longer word, and across the ends of words, other words are looked for
INSIDE = 6  # the least letters of a word that is looked for there


Hits = tuple[np.ndarray, np.ndarray, np.ndarray]  # problem, number of the rare word, whether it is beside another


@dataclass
class Found:
    """What of private problems is in a text.

    `sequences` and `identifiers` are numbers of them. `rare` is the most rare words of one problem; one that stands
    beside another both here and there counts half, as a term of several words tells less than as many words from all
    over the problem. `words` are those rare words, by problem, that are in few problems.
    """

    sequences: int = 0
    identifiers: int = 0
    rare: float = 0.0
    words: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


class PrivateIndex:
    """The secrets of private problems, as keyed hashes: their rare words, sequences and identifiers.

    Nothing else is kept of them, and without the key, which is of this process alone, no guess can be tried.
    """

    def __init__(
        self, private: Iterable[Problem], public: Iterable[str] = (), everyday: Iterable[str] = (), ngram: int = 5
    ):
        secrets = PrivateWords(private, public, everyday, ngram)
        self._hash = secrets.hash
        self._sequences, self._sizes = secrets.sequences, secrets.sizes
        self._names, self._name_sizes = secrets.identifiers, secrets.identifier_sizes
        self._rare, self._first, self._owners, self._mates = secrets.rare, secrets.first, secrets.owners, secrets.mates
        few = np.repeat(np.diff(self._first) <= MANY, np.diff(self._first))
        self.rare_words = np.bincount(self._owners[few])  # of each problem, those in few problems
        self._widths = [width for width in secrets.widths if width >= INSIDE]

        self.find = lru_cache(maxsize=1)(self._find)  # several rules ask about one answer

    def _find(self, text: str) -> Found:
        """Everything of private problems that is in a text, in any of its readings."""
        found, hits = Found(), []
        for reading in readings(text):
            spoken = words(reading)
            if spoken:
                hashes = self._hash.words(spoken)
                in_a_row = (self._hash.sequences(hashes, size) for size in self._sizes)
                found.sequences += sum(int(self._sequences.has(part).sum()) for part in in_a_row)
                found.identifiers += self._identifiers(reading)
                hits += [self._rare_words(hashes), self._hidden_words(spoken)]
        if hits:
            self._count(found, *(np.concatenate(part) for part in zip(*hits, strict=True)))
        return found

    def _count(self, found: Found, owners: np.ndarray, which: np.ndarray, beside: np.ndarray) -> None:
        """Put rare words together: `which` word is in the problem `owners`, and whether it is `beside` another."""
        pairs, of_pair = np.unique(owners << 32 | which, return_inverse=True)
        together = np.zeros(len(pairs), bool)
        together[of_pair[beside]] = True
        problems, of_problem = np.unique(pairs >> 32, return_inverse=True)
        if len(problems):
            found.rare = float(np.bincount(of_problem, 1 - together / 2).max())
        which = pairs & 0xFFFFFFFF
        few = self._first[which + 1] - self._first[which] <= MANY
        for problem, word in zip((pairs[few] >> 32).tolist(), which[few].tolist(), strict=True):
            found.words[problem].add(word)

    def _rare_words(self, hashes: np.ndarray) -> Hits:
        places, which = self._rare.find(hashes)
        at, repeated = self._occurrences(which)
        places, mates = places[repeated], self._mates[at]
        before = np.concatenate((np.zeros(2, np.uint64), hashes))
        beside = (mates != 0) & ((mates == before[places]) | (mates == before[places + 1]))
        return self._owners[at].astype(np.int64), which[repeated], beside

    def _hidden_words(self, spoken: list[str]) -> Hits:
        """Rare words in text that is joined, cut into other pieces, or written backwards."""
        text, lengths = "".join(spoken), [len(word) for word in spoken]
        word_at = np.repeat(np.arange(len(spoken)), lengths)
        long = np.array(lengths) > ORDINARY
        starts, stops = _windows(len(text), self._widths)
        odd = (word_at[starts] != word_at[stops - 1]) | long[word_at[starts]]
        forwards = self._hash.spans(text, starts[odd], stops[odd])
        backwards = self._hash.spans(text[::-1], starts, stops)
        which = np.unique(np.concatenate([self._rare.find(hashes)[1] for hashes in (forwards, backwards)]))
        at, repeated = self._occurrences(which)
        return self._owners[at].astype(np.int64), which[repeated], np.zeros(len(at), bool)

    def _occurrences(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the problems of some words are, all in one; and for each of them, which of the words it is of."""
        first, counts = self._first[which], self._first[which + 1] - self._first[which]
        repeated = np.repeat(np.arange(len(which)), counts)
        return np.arange(len(repeated)) + (first - np.cumsum(counts) + counts)[repeated], repeated

    def _identifiers(self, reading: str) -> int:
        count = 0
        if short := list(possible_identifiers(reading)):
            count += int(self._names.has(self._hash.words(short)).sum())
        long = [size for size in self._name_sizes if size >= ANYWHERE]
        for stream in streams(reading):
            starts, stops = _windows(len(stream), long)
            if len(starts):
                count += int(self._names.has(self._hash.spans(stream, starts, stops)).sum())
        return count


def _windows(length: int, widths: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of every run of one of these widths in a text of `length` characters."""
    starts = [np.arange(length - width + 1) for width in widths if width <= length]
    stops = [part + length - part[-1] for part in starts]
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *starts]), np.concatenate([empty, *stops])
