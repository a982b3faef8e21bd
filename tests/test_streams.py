"""Named random streams: the same everywhere, independent of each other and of global state."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrlvr.streams import epoch_batch, seed_of, stream


def test_seeds_are_the_same_on_every_machine():
    """First 8 bytes of `printf '[7, "site-1", "private", 3]' | sha256sum`, without the lowest bit."""
    assert seed_of(7, "site-1", "private", 3) == 0x4184A77E24C3EB98 >> 1
    assert seed_of(0, "a") == 0x4A2978D91C0194C6 >> 1


def test_a_seed_fits_where_63_bits_are_allowed():
    assert all(0 <= seed_of(seed, "x") < 2**63 for seed in range(2000))


def test_names_are_not_run_together():
    seeds = {
        seed_of(1, "ab", "c"),
        seed_of(1, "a", "bc"),
        seed_of(1, "abc"),
        seed_of(1, "abc", ""),
        seed_of(1, 'ab", "c'),
        seed_of(1, "1"),
        seed_of(1, 1),
        seed_of(11),
        seed_of(1),
    }
    assert len(seeds) == 9


def test_a_stream_neither_reads_nor_moves_global_random_state():
    drawn = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        drawn.append(stream(5, "x").random(4).tolist())
        epoch_batch([1, 2, 3], 4, 2, 5, "x")
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert drawn[0] == drawn[1]


def test_streams_of_other_names_draw_other_numbers():
    draws = {tuple(stream(*names).random(3)) for names in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 0))}
    assert len(draws) == 4


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 9), size=st.integers(1, 12), seed=st.integers(0, 3))
def test_batches_walk_through_whole_epochs(count, size, seed):
    """Cut the batches, laid end to end, into pieces of `count`: each holds every item once."""
    items = [f"item {i}" for i in range(count)]
    steps = 3 * count
    walked = [item for step in range(steps) for item in epoch_batch(items, step, size, seed, "walk")]
    assert len(walked) == steps * size
    for start in range(0, len(walked), count):
        assert sorted(walked[start : start + count]) == items


def test_each_epoch_has_its_own_order():
    items = list(range(10))
    epochs = {tuple(epoch_batch(items, epoch, 10, 0, "x")) for epoch in range(6)}
    assert len(epochs) == 6


def test_a_batch_depends_on_its_step_alone_so_that_resuming_needs_no_cursor():
    items = list(range(7))
    walked = [epoch_batch(items, step, 4, 3, "site", 1) for step in range(9)]
    assert [epoch_batch(items, step, 4, 3, "site", 1) for step in (8, 2, 5)] == [walked[8], walked[2], walked[5]]
    assert [epoch_batch(items, step, 4, 3, "site", 2) for step in range(9)] != walked


def test_a_batch_larger_than_the_set_repeats_items_evenly():
    assert sorted(epoch_batch(["a", "b"], 0, 6, 0)) == ["a", "a", "a", "b", "b", "b"]


def test_there_is_no_batch_of_nothing():
    with pytest.raises(ValueError, match="no items"):
        epoch_batch([], 0, 1, 0)
