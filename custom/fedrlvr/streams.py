"""Named random streams: every draw comes from (seed, names...), never from global state, so runs repeat and resume."""

import hashlib
import json
from functools import cache

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`; equal names give equal streams on every machine."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(seed_of(seed, *names))


def epoch_batch(items: list, step: int, size: int, seed: int, *names: str | int) -> list:
    """The `step`-th batch of `size` items when `items` are walked in a fresh order each epoch.

    A pure function of `step`, so resuming needs no cursor. A batch may span two epochs; where `size` exceeds
    the number of items, items repeat.
    """
    if not items:
        raise ValueError("no items to draw a batch from")
    order = cache(lambda epoch: stream(seed, *names, "epoch", epoch).permutation(len(items)))
    places = (divmod(position, len(items)) for position in range(step * size, (step + 1) * size))
    return [items[order(epoch)[index]] for epoch, index in places]
