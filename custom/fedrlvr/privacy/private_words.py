"""What of private problems is a secret: found by counting words, in memory that a million problems fit into."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from fedrlvr.privacy.identifiers import identifiers
from fedrlvr.privacy.keyed_hash import SLICE, HashSet, KeyedHash
from fedrlvr.privacy.policy import LONG
from fedrlvr.privacy.readings import bare
from fedrlvr.privacy.text import words
from fedrlvr.types import Problem

_EVERYDAY_NUMBER = re.compile(r"0\.\d+|\d+\.5|\d+0")  # of a calculation
BATCH = 1000  # texts at once
LEAST_LETTERS = 3  # a shorter word is never rare
# A word is of the field that comes in more different surroundings than this many, and than this share of all problems.
# Surroundings are counted rather than problems, so that what several problems say of one patient stays a secret.
SURROUNDINGS, SURROUNDINGS_SHARE = 2, 0.00075
MANY, MANY_SHARE = 10, 0.01  # what is in more problems than this many, and than this share of them, is of the field
WHOLE = 4  # words of a whole question that are a secret if one of them is rare
PROSE = 10  # of `LONG` words in a row, so many are no symbols: a calculation is none

SECRET, LETTERS, SYMBOL, OPTION, ANSWER = 1, 2, 4, 8, 16  # marks of a word, and of the text it is in
QUESTION = 0


class PrivateWords:
    """The rare words, sequences and identifiers of private problems, as hashes.

    `rare` are the rare words; word number w is in the problems `owners[first[w]:first[w + 1]]`, and `mates`
    says which rare word stands up to two words before it there, 0 for none. `sizes` are the lengths of the sequences in
    words, `widths` those of rare words, and `identifier_sizes` those of identifiers, in characters.
    """

    def __init__(self, private: Iterable[Problem], public: Iterable[str], everyday: Iterable[str], ngram: int):
        self.hash, self._ngram = KeyedHash(), ngram
        known = self._known(public, list(everyday))
        self._collect(private, known)
        limit = max(MANY, MANY_SHARE * self._count)
        self._find_rare(limit)
        self._find_sequences(limit)
        self._find_identifiers()
        del self._ids, self._public, self._public_ids

    def _known(self, public: Iterable[str], everyday: list[str]) -> HashSet:
        """The words of public texts and everyday words; what is in public texts in a row is kept aside."""
        self._public, self._public_ids = [], [np.zeros(0, np.uint64)]
        for texts in _batches(map(bare, public)):
            self._public.append(self._hashed(map(words, texts))[0])
            self._public_ids.append(self.hash.words([name for text in texts for name in identifiers(text)]))
        return HashSet(np.unique(np.concatenate([self.hash.words(everyday), *self._public])))

    def _hashed(self, texts: Iterable[list[str]]) -> tuple[np.ndarray, list[str]]:
        """The hashes of all words of some texts, with a 0 after each text; and the words."""
        flat = [word for text in texts for word in (*text, "")]
        hashes = self.hash.words(flat)
        hashes[[not word for word in flat]] = 0
        return hashes, flat

    def _collect(self, private: Iterable[Problem], known: HashSet) -> None:
        """All words of the problems one after the other, a 0 after each text: their hashes, problems and marks."""
        words_, owners, marks, ids = _Growing(np.uint64), _Growing(np.uint32), _Growing(np.uint8), _Growing(np.uint64)
        for part in (words_, owners, marks):
            part.add(np.zeros(2))  # so that every word has two before it
        widths, sizes, seen = set(), set(), set()
        self._count = 0
        for problems in _batches(private):
            texts = [
                (n, bare(text), kind) for n, p in enumerate(problems, self._count) for text, kind in _texts(p, seen)
            ]
            self._count += len(problems)
            spoken = [words(text) for _, text, _ in texts]
            part, flat = self._hashed(spoken)
            words_.add(part)
            lengths = [len(text) + 1 for text in spoken]
            owners.add(np.repeat([number for number, *_ in texts], lengths))
            secret = ~known.has(part) & np.array([_may_be_rare(word) for word in flat], bool)
            letters = np.array([word.isalpha() for word in flat], bool)
            symbol = np.array([len(word) < 2 for word in flat], bool) | ~letters
            kinds = np.repeat([kind for *_, kind in texts], lengths)
            marks.add(SECRET * secret + LETTERS * letters + SYMBOL * symbol + kinds)
            widths.update(len(word) for word, rare in zip(flat, secret, strict=True) if rare)
            names = [name for _, text, _ in texts for name in identifiers(text)]
            sizes.update(map(len, names))
            ids.add(self.hash.words(names))
        self._words, self._owner, self._marks, self._ids = (part.all() for part in (words_, owners, marks, ids))
        self.widths, self.identifier_sizes = sorted(widths), sorted(sizes)

    def _find_rare(self, limit: float) -> None:
        """Of the words that are not known, those in few problems and in few surroundings."""
        at = np.flatnonzero(self._marks & SECRET).astype(np.uint32)
        at = at[np.argsort(self._words[at], kind="stable")]
        new_word = _new(self._words[at])
        number = np.cumsum(new_word, dtype=np.uint32) - np.uint32(1)  # of each occurrence's word
        once = new_word | _new(self._owner[at])
        place, of_word = at[once], number[once]
        problems = np.bincount(of_word)
        surroundings = self._surroundings(place, of_word)
        rare = (surroundings <= max(SURROUNDINGS, SURROUNDINGS_SHARE * self._count)) & (problems <= limit)
        self._rare_at = np.zeros(len(self._words), bool)
        self._rare_at[at[rare[number]]] = True
        place = place[rare[of_word]]
        self.rare = HashSet(np.unique(self._words[place]))
        self.first = np.concatenate(([0], np.cumsum(problems[rare]))).astype(np.int64)
        self.owners = self._owner[place]
        self.mates = self._mates(place)

    def _surroundings(self, place: np.ndarray, of_word: np.ndarray) -> np.ndarray:
        """For each word, how many different pairs of words stand before and after it at its places."""
        around = self.hash.mixed(self._words[place - 1] ^ self.hash.mixed(self._words[place + 1]))
        around >>= np.uint64(32)
        around |= of_word.astype(np.uint64) << np.uint64(32)
        around.sort()
        return np.bincount(around[_new(around)] >> np.uint64(32))

    def _mates(self, place: np.ndarray) -> np.ndarray:
        """For each rare word, the rare word before it, or the one before that; 0 for none and where one is a number."""
        mates = np.zeros(len(place), np.uint64)
        named = self._rare_at & ((self._marks & LETTERS) != 0)
        for steps in (2, 1):
            near = named[place] & named[place - steps] & (self._words[place - 1] != 0)
            mates[near] = self._words[place[near] - steps]
        return mates

    def _find_sequences(self, limit: float) -> None:
        sizes = {self._ngram: 1, LONG: 0} if self._ngram else {}
        gathered = _Growing(np.uint64)
        for size, least in sizes.items():
            for part in self._in_a_row(size, least):
                gathered.add(part)
        for part in self._whole_texts(sizes) if sizes else ():
            gathered.add(part)
        del self._words, self._owner, self._marks, self._rare_at  # room for the next
        found = gathered.all()
        found.sort()
        kept = _new(found)
        kept[: max(0, len(found) - int(limit))] &= found[int(limit) :] != found[: -int(limit)]  # else there are more
        found = HashSet(found[kept])
        public = [found.find(self.hash.sequences(text, size))[1] for text in self._public for size in sizes]
        self.sequences = HashSet(np.delete(found.hashes, np.concatenate(public))) if public else found
        self.sizes = sorted(sizes)

    def _in_a_row(self, size: int, least: int) -> Iterator[np.ndarray]:
        """Hashes of all `size` words in a row of one text of which at least so many are rare, or all but one neither
        everyday nor public."""
        for start in range(0, len(self._words), SLICE):
            part = slice(start, start + SLICE + size - 1)
            hashes = self.hash.sequences(self._words[part], size)
            rare = _windows_of(self._rare_at[part], size)
            unusual = _windows_of(self._marks[part] & SECRET != 0, size)
            ends = _windows_of(self._words[part] == 0, size)
            symbols = _windows_of(self._marks[part] & SYMBOL != 0, size)
            telling = (rare >= least) | (unusual >= size - 1)
            yield hashes[telling & (ends == 0) & ((symbols <= LONG - PROSE) | (least > 0))]

    def _whole_texts(self, sizes: dict[int, int]) -> Iterator[np.ndarray]:
        """Hashes of whole texts that are no options: questions of four words with a rare one, and of `ngram` of any
        kind; answers of two words of which one is no everyday word. Adds to `sizes`."""
        ends = np.flatnonzero(self._words == 0)
        starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
        short = (lengths > 1) & (lengths < LONG)
        for start, length in zip(starts[short].tolist(), lengths[short].tolist(), strict=True):
            text = slice(start, start + length)
            kind = self._marks[start] & (OPTION | ANSWER)
            if (
                (kind == ANSWER and (self._marks[text] & SECRET).any())
                or (kind != OPTION and length >= self._ngram)
                or (kind != OPTION and length >= WHOLE and self._rare_at[text].any())
            ):
                sizes.setdefault(length, 0)
                yield self.hash.sequences(self._words[text], length)

    def _find_identifiers(self) -> None:
        self.identifiers = HashSet(np.setdiff1d(self._ids, np.concatenate(self._public_ids)))


class _Growing:
    """Numbers that are added to bit by bit, in one piece of memory."""

    def __init__(self, kind: type[np.number]):
        self._kind, self._bytes = kind, bytearray()

    def add(self, values: np.ndarray) -> None:
        self._bytes += values.astype(self._kind).tobytes()

    def all(self) -> np.ndarray:
        return np.frombuffer(self._bytes, self._kind)


def _new(values: np.ndarray) -> np.ndarray:
    """Where something else stands than at the place before."""
    return np.concatenate((np.ones(min(1, len(values)), bool), values[1:] != values[:-1]))


def _windows_of(flags: np.ndarray, size: int) -> np.ndarray:
    """How many of each `size` flags in a row are set."""
    sums = np.concatenate(([0], np.cumsum(flags, dtype=np.int32)))
    return sums[size:] - sums[:-size] if len(flags) >= size else sums[:0]


def _may_be_rare(word: str) -> bool:
    return len(word) >= LEAST_LETTERS and not _EVERYDAY_NUMBER.fullmatch(word)


def _texts(problem: Problem, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Each text of a problem, earlier turns of its conversation included, and of which kind it is.

    A question that was `seen` in another problem is left out: a secret that is written down often is still one. Earlier
    turns and options are counted each time, as instructions and examples are no secret that stand in many problems.
    """
    *earlier, question = [message.content for message in problem.messages] or [problem.prompt]
    for text in earlier:
        yield text, QUESTION
    if hash(question) not in seen:  # a hash of this process alone
        seen.add(hash(question))
        yield question, QUESTION
    yield problem.answer, ANSWER
    for option in problem.choices:
        yield option, OPTION


def _batches(items: Iterable) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        yield batch
