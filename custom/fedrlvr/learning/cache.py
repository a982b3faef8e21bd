"""The cache of rows that are sampled together. Rows come and go, and every token is written into its place.

transformers' own layers make a new copy of all keys and values for each token, and know no rows that join later.
"""

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

try:
    from transformers.cache_utils import DummyLayer
except ImportError:  # transformers 5.17, in which every layer has a cache
    from transformers.cache_utils import CacheLayerMixin as DummyLayer

SPARE = 8  # an eighth of the columns is spare: once it is used up, what is kept is moved to the memory's beginning


def columns_held(columns: int, window: int | None = None) -> int:
    """How many columns a layer's memory has for rows of at most `columns`."""
    most = columns if window is None else min(columns, window)
    return most + most // SPARE + 1


class RowCache(DynamicCache):
    """Keys, values and states of at most `rows` rows, `columns` long. All rows end at the same column, the newest; a
    row that is shorter than `width` columns begins with padding, which must be masked."""

    def __init__(self, config: PreTrainedConfig, rows: int, columns: int):
        super().__init__(config=config)
        self.layers = [KINDS[type(layer)](layer, rows, columns) for layer in self.layers]

    @property
    def width(self) -> int:
        return max(layer.width for layer in self.layers)

    def add(self, cache: DynamicCache, rows: torch.Tensor) -> None:
        """Append copies of these rows of another cache."""
        for own, other in zip(self.layers, cache.layers, strict=True):
            own.add(other, rows)
        self.device = rows.device

    def keep(self, order: torch.Tensor, width: int) -> None:
        """Keep these rows, in this order, and the newest `width` columns of them: all others are padding."""
        (moved,) = (order != torch.arange(len(order))).nonzero(as_tuple=True)
        source, target, order = (index.to(self.device) for index in (order[moved], moved, order))
        for layer in self.layers:
            layer.keep(order, source, target)
            layer.width = min(layer.width, width)


class AttentionLayer(DynamicLayer):
    """Keys and values in memory that is allocated once, rows x heads x columns x dimension. A layer with an attention
    window keeps the columns that its next token sees."""

    def __init__(self, rows: int, columns: int, window: int | None = None):
        super().__init__()
        self.rows, self.is_sliding = rows, window is not None
        self.most_kept = columns if window is None else window - 1
        self.columns = columns_held(columns, window)
        self.count = self.width = self.end = 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Write the next token of every row; return the keys and values that it sees."""
        if self.end == self.columns:
            self._end_at(self._kept(self.width))
        seen = self._kept(self.width) + 1
        self.end, self.width = self.end + 1, self.width + 1
        for memory, states in ((self._keys, key_states), (self._values, value_states)):
            memory[: self.count, :, self.end - 1] = states[:, :, 0]
        self.keys, self.values = (
            memory[: self.count, :, self.end - seen : self.end] for memory in (self._keys, self._values)
        )
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many columns attention sees, and how many before them it does not."""
        kept = self._kept(self.width)
        return kept + query_length, self.width - kept

    def add(self, layer: DynamicLayer, rows: torch.Tensor) -> None:
        if not layer.is_initialized:  # this layer reads another's keys and values
            return
        if not self.is_initialized:
            self._allocate(layer)
        before, first = self._kept(self.width), self.count
        width = max(self.width, layer.get_seq_length())
        kept, new = self._kept(width), layer.keys.shape[-2]
        self._end_at(max(self.end, kept))
        self.count, self.width = first + len(rows), width
        for memory, states in ((self._keys, layer.keys), (self._values, layer.values)):
            # Padding is masked, but not-a-number times zero is not zero.
            memory[:first, :, self.end - kept : self.end - before] = 0
            memory[first : self.count, :, self.end - kept : self.end - new] = 0
            memory[first : self.count, :, self.end - new : self.end] = states[rows]

    def keep(self, order: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
        if self.is_initialized and len(source):
            columns = slice(self.end - self._kept(self.width), self.end)
            for memory in (self._keys, self._values):
                memory[target, :, columns] = memory[source, :, columns]
        self.count = len(order)

    def _kept(self, width: int) -> int:
        return min(width, self.most_kept)

    def _allocate(self, layer: DynamicLayer) -> None:
        self.device, self.dtype, self.is_initialized = layer.keys.device, layer.keys.dtype, True
        self._keys, self._values = (
            states.new_empty((self.rows, states.shape[1], self.columns, states.shape[3]))
            for states in (layer.keys, layer.values)
        )

    def _end_at(self, end: int) -> None:
        """Move what is kept, so that it ends there."""
        kept = self._kept(self.width)
        if end != self.end and self.count:
            for memory in (self._keys, self._values):
                columns = memory[: self.count, :, self.end - kept : self.end].clone()
                memory[: self.count, :, end - kept : end] = columns
        self.end = end


class StateLayer(LinearAttentionLayer):
    """States of linear attention, state space and convolution: of one size, however long a row is."""

    width = 0

    def add(self, layer: LinearAttentionLayer, rows: torch.Tensor) -> None:
        for name in ("conv_states", "recurrent_states"):
            own = getattr(self, name)
            for number, states in getattr(layer, name).items():
                if states is not None:
                    own[number] = states[rows] if own[number] is None else torch.cat([own[number], states[rows]])
        for name in ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state"):
            getattr(self, name).update(getattr(layer, name))
        self.conv_kernel_size, self.device, self.dtype = layer.conv_kernel_size, layer.device, layer.dtype

    def keep(self, order: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
        self.reorder_cache(order)


class HybridLayer(StateLayer, AttentionLayer):
    """Both side by side."""

    def __init__(self, rows: int, columns: int, window: int | None, number_of_states: int):
        AttentionLayer.__init__(self, rows, columns, window)
        StateLayer.__init__(self, number_of_states)

    def add(self, layer, rows: torch.Tensor) -> None:
        AttentionLayer.add(self, layer, rows)
        StateLayer.add(self, layer, rows)

    def keep(self, order: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
        AttentionLayer.keep(self, order, source, target)
        StateLayer.keep(self, order, source, target)


class NoLayer(DummyLayer):
    """Of a layer without a cache, or one that reads another's."""

    width = 0

    def add(self, layer: DummyLayer, rows: torch.Tensor) -> None: ...

    def keep(self, order: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None: ...


def unfit(config: PreTrainedConfig) -> str:
    """Why `RowCache` cannot be the cache of a model with this configuration; "" where it can."""
    name, layers = config.get_text_config().model_type, DynamicCache(config=config).layers
    unknown = sorted({type(layer).__name__ for layer in layers if type(layer) not in KINDS})
    if unknown:
        return f"its cache has layers of the kind {unknown[0]}"
    if not any(isinstance(layer, DynamicLayer) for layer in layers):
        return "it has no attention layers"
    if any(isinstance(layer, LinearAttentionLayer) for layer in layers) and name not in RECURRENT:
        return "its recurrent layers may see padding; those that do not are " + ", ".join(sorted(RECURRENT))
    return ""


# Architectures with states of linear attention, state space or convolution in which padding leaves no trace: tried in
# tests/learning/test_recurrent_families.py.
RECURRENT = {
    *("bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "lfm3", "nemotron_h", "olmo_hybrid"),
    *("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "zamba", "zamba2", "zaya"),
}

# transformers' kind of layer -> ours, from one of theirs, rows and columns
KINDS = {
    DynamicLayer: lambda layer, *size: AttentionLayer(*size),
    DynamicSlidingWindowLayer: lambda layer, *size: AttentionLayer(*size, layer.sliding_window),
    LinearAttentionLayer: lambda layer, *size: StateLayer(layer.number_of_states),
    LinearAttentionAndFullAttentionLayer: lambda layer, *size: HybridLayer(*size, None, layer.number_of_states),
    LinearAttentionAndSlidingWindowAttentionLayer: lambda layer, *size: HybridLayer(
        *size, layer.sliding_window, layer.number_of_states
    ),
    DummyLayer: lambda layer, *size: NoLayer(),
}
