"""Keys and values of what was read, with room for what is written."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 32  # tokens


class RoomyLayer(DynamicLayer):
    """Keys and values (B, H, S, D) of one layer: a step writes its token behind them instead of copying them all."""

    _keys: Tensor  # (B, H, at least S, D)
    _values: Tensor
    _length = 0  # S

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; returns all."""
        new = key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return self._show(key_states, value_states, new)
        begin, end = self._length, self._length + new
        if end > self._keys.shape[-2]:
            self._keys, self._values = (_longer(x[:, :, :begin], end + ROOM) for x in (self._keys, self._values))
        self._keys[:, :, begin:end] = key_states
        self._values[:, :, begin:end] = value_states
        return self._show(self._keys, self._values, end)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row so many times."""
        if self._length:
            self._show(
                self._keys.repeat_interleave(repeats, 0), self._values.repeat_interleave(repeats, 0), self._length
            )

    def batch_select_indices(self, indices: Tensor) -> None:
        """These rows."""
        if self._length:
            self._show(self._keys[indices], self._values[indices], self._length)

    def _show(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        self._keys, self._values, self._length = keys, values, length
        found = keys[:, :, :length], values[:, :, :length]
        self.keys, self.values = found
        return found


class RoomyCache(DynamicCache):
    """transformers' growing cache with such layers. Not for gradients: it writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = RoomyLayer


def _longer(tensor: Tensor, length: int) -> Tensor:
    batch, heads, have, width = tensor.shape
    found = tensor.new_empty(batch, heads, length, width)
    found[:, :, :have] = tensor
    return found
