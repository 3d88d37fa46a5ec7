"""Keys and values of a decode loop in buffers of fixed size: nothing is copied to grow by one token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class BufferLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values (B, H, T, D), written in place into room for `capacity` tokens.

    transformers' own dynamic layer concatenates at every token, which copies the whole cache each time.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values and return views of all so far."""
        if self._keys is None or self._values is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._keys = _room(key_states, self.capacity)
            self._values = _room(value_states, self.capacity)
            old = 0
        else:
            old = self.get_seq_length()
        new = old + key_states.shape[2]
        self._keys[:, :, old:new] = key_states
        self._values[:, :, old:new] = value_states
        self.keys, self.values = self._keys[:, :, :new], self._values[:, :, :new]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, in that order; a row may be taken more than once."""
        if self._keys is None or self._values is None:
            return
        length = self.get_seq_length()
        self._keys, self._values = self._keys.index_select(0, indices), self._values.index_select(0, indices)
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]


def decode_cache(config: PreTrainedConfig, capacity: int) -> tuple[DynamicCache, bool]:
    """An empty cache for up to `capacity` tokens a row, and whether every layer attends to all of them.

    Layers with sliding windows or recurrent state keep the cache that transformers gives them.
    """
    cache = DynamicCache(config=config)
    plain = bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)
    if plain:
        cache.layers = [BufferLayer(capacity) for _ in cache.layers]
    return cache, plain


def _room(states: Tensor, capacity: int) -> Tensor:
    return states.new_empty((*states.shape[:2], capacity, states.shape[3]))
