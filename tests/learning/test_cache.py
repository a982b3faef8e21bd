"""The cache of rows that come and go, against transformers' own cache with the same tokens, layer by layer."""

import pytest
import torch
from transformers import DynamicCache, Gemma3TextConfig, LlamaConfig

from fedrlvr.learning import cache as cache_module
from fedrlvr.learning.cache import AttentionLayer, RowCache

WINDOW, HEADS, DIM = 6, 2, 4
SIZES = {"num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": DIM}
FULL = LlamaConfig(hidden_size=8, **SIZES)
SLIDING = Gemma3TextConfig(
    hidden_size=8, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"], **SIZES
)
BOTH = pytest.mark.parametrize("config", [FULL, SLIDING], ids=["full", "sliding"])


@pytest.fixture(autouse=True)
def memory_full_of_nan(monkeypatch):
    """What is not written must not be read: not-a-number times the weight 0 of padding is not-a-number."""
    allocate = AttentionLayer._allocate

    def poisoned(self, layer):
        allocate(self, layer)
        self._keys.fill_(torch.nan), self._values.fill_(torch.nan)

    monkeypatch.setattr(AttentionLayer, "_allocate", poisoned)


class Rows:
    """Feeds the same random tokens to a `RowCache` and, row by row, to caches of transformers."""

    def __init__(self, config, rows: int, columns: int):
        self.config, self.cache, self.alone = config, RowCache(config, rows, columns), []
        self.random = torch.Generator().manual_seed(0)

    def states(self, rows: int, tokens: int) -> torch.Tensor:
        return torch.randn(2, rows, HEADS, tokens, DIM, generator=self.random)

    def join(self, *lengths: int) -> None:
        """New rows with prompts of these lengths, padded on the left to the longest, as the model would."""
        padded = DynamicCache(config=self.config)
        alone = [DynamicCache(config=self.config) for _ in lengths]
        for layer in range(2):
            keys, values = self.states(len(lengths), max(lengths))
            padded.update(keys, values, layer)
            for i, (own, n) in enumerate(zip(alone, lengths, strict=True)):
                own.update(keys[i : i + 1, :, -n:], values[i : i + 1, :, -n:], layer)
        self.cache.add(padded, torch.arange(len(lengths)))
        self.alone += alone

    def step(self) -> None:
        """One more token for every row; each row sees its own tokens, and numbers before them."""
        for layer in range(2):
            keys, values = self.states(len(self.alone), 1)
            seen = self.cache.update(keys, values, layer)
            for i, own in enumerate(self.alone):
                for mine, theirs in zip(seen, own.update(keys[i : i + 1], values[i : i + 1], layer), strict=True):
                    assert torch.equal(mine[i : i + 1, :, -theirs.shape[2] :], theirs)
                    assert mine[i].isfinite().all()

    def leave(self, *order: int) -> None:
        """Only these stay, in this order."""
        self.alone = [self.alone[i] for i in order]
        self.cache.keep(
            torch.tensor(order, dtype=torch.long), max((own.get_seq_length() for own in self.alone), default=0)
        )


@BOTH
def test_rows_join_leave_and_change_places_as_if_each_were_alone(config):
    rows = Rows(config, rows=5, columns=20)
    rows.join(3, 7, 5)
    for _ in range(4):
        rows.step()
    rows.leave(2, 1)  # the last row takes the place of the first
    rows.step()
    rows.join(9, 2)  # shorter and longer than what is there
    for _ in range(5):
        rows.step()
    rows.leave(0, 3)
    rows.join(16)  # longer than all: the others begin with more padding
    for _ in range(3):
        rows.step()


@BOTH
def test_rows_that_always_come_and_go_need_no_more_memory(config):
    """For 200 tokens, though a row has at most 20: what is kept moves to the other end again and again."""
    rows = Rows(config, rows=3, columns=20)
    rows.join(4, 6)
    memory = [layer._keys.data_ptr() for layer in rows.cache.layers]
    for t in range(200):
        rows.step()
        if t % 7 == 6:
            rows.leave(len(rows.alone) - 1)
            rows.join(1 + t % 5)
    assert [layer._keys.data_ptr() for layer in rows.cache.layers] == memory
    assert [layer._keys.shape[2] for layer in rows.cache.layers] == [layer.columns for layer in rows.cache.layers]


@BOTH
def test_when_all_have_left_others_begin_anew(config):
    rows = Rows(config, rows=2, columns=12)
    rows.join(5, 4)
    for _ in range(6):
        rows.step()
    rows.leave()
    assert rows.cache.width == 0
    rows.join(2, 3)
    assert rows.cache.width == 3
    for _ in range(8):
        rows.step()


def test_columns_that_are_padding_of_all_rows_are_trimmed():
    rows = Rows(FULL, rows=3, columns=30)
    rows.join(9, 2)
    rows.step()
    assert rows.cache.width == 10
    rows.leave(1)
    assert rows.cache.width == 3
    assert rows.cache.get_mask_sizes(1, 0) == (4, 0)


def test_a_window_is_seen_as_transformers_says():
    """The mask's sizes after each token are those of the cache that the model would have made."""
    rows = Rows(SLIDING, rows=1, columns=30)
    rows.join(3)
    for _ in range(12):
        own = rows.alone[0]
        assert [rows.cache.get_mask_sizes(1, i) for i in (0, 1)] == [own.get_mask_sizes(1, i) for i in (0, 1)]
        assert rows.cache.get_seq_length(0) == own.get_seq_length(0)
        rows.step()


def test_memory_is_an_eighth_more_than_the_longest_row_or_the_window():
    assert cache_module.columns_held(80) == 91
    assert cache_module.columns_held(80, window=40) == 46
    assert cache_module.columns_held(80, window=4000) == 91
