"""64-bit hashes of any runs of characters of a text, all in one pass, with a key that is drawn anew for each index."""

import secrets

import numpy as np

WRAP = 1 << 64
SLICE = 1 << 20  # hashes at once, where there may be many millions


class KeyedHash:
    """A polynomial over the characters in a secret base, mixed: equal runs have equal hashes, wherever they stand.

    Without the key, which is never written down, nobody can make the hash of a guess.
    """

    def __init__(self):
        # Arrays of one number: with those, numpy's arithmetic is modulo 2^64 without a warning.
        self._base, self._mixer, self._length = (np.array([secrets.randbits(64) | 1], np.uint64) for _ in range(3))
        self._powers = self._inverses = np.ones(1, np.uint64)

    def spans(self, text: str, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """One hash for each run `text[start:end]`."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        self._grow(len(codes))
        sums = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(codes * self._powers[: len(codes)], out=sums[1:])
        hashes = (sums[ends] - sums[starts]) * self._inverses[starts]
        return self.mixed(hashes + (ends - starts).astype(np.uint64) * self._length)

    def words(self, words: list[str]) -> np.ndarray:
        """One hash for each word."""
        ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        starts = np.concatenate((np.zeros(min(1, len(words)), np.int64), ends[:-1]))
        return self.spans("".join(words), starts, ends)

    def sequences(self, hashes: np.ndarray, size: int) -> np.ndarray:
        """One hash for each `size` words in a row, made of the words' own hashes."""
        count = max(0, len(hashes) - size + 1)
        total = np.zeros(count, np.uint64)
        for offset in range(size):
            total = total * self._base + hashes[offset : offset + count]
        return self.mixed(total + self._length * np.uint64(size))

    def mixed(self, hashes: np.ndarray) -> np.ndarray:
        for shift in (32, 29):
            hashes = (hashes ^ (hashes >> np.uint64(shift))) * self._mixer
        return hashes ^ (hashes >> np.uint64(32))

    def _grow(self, length: int) -> None:
        """Powers of the base and of its inverse, for every place in a text of this length."""
        if length >= len(self._powers):
            size, base = 2 * length + 2, int(self._base[0])
            one = np.ones(1, np.uint64)
            for name, factor in (("_powers", base), ("_inverses", pow(base, -1, WRAP))):
                steps = np.concatenate((one, np.full(size - 1, factor, np.uint64)))
                setattr(self, name, np.multiply.accumulate(steps))


class HashSet:
    """Many hashes, each once, in one sorted array; of most others a table of first bits says that they are missing."""

    def __init__(self, hashes: np.ndarray):
        """`hashes` must be sorted, as `np.unique` returns them."""
        self.hashes = hashes
        self._shift = np.uint64(64 - (2 * max(1, len(hashes))).bit_length())
        self._table = np.zeros(1 << (64 - int(self._shift)), bool)
        for start in range(0, len(hashes), SLICE):
            self._table[hashes[start : start + SLICE] >> self._shift] = True

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(where in `hashes`, where in the set) of each hash that is in the set."""
        asked = np.flatnonzero(self._table[hashes >> self._shift])
        if not len(self.hashes) or not len(asked):
            return asked[:0], asked[:0]
        places = np.searchsorted(self.hashes, hashes[asked])
        there = self.hashes[np.minimum(places, len(self.hashes) - 1)] == hashes[asked]
        return asked[there], places[there]

    def has(self, hashes: np.ndarray) -> np.ndarray:
        found = np.zeros(len(hashes), bool)
        found[self.find(hashes)[0]] = True
        return found
