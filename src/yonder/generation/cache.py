"""Keys and values of what was read, with room for what is written: a cache that grows, and one that never moves."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 32  # tokens


class RoomyLayer(DynamicLayer):
    """Keys and values (B, H, S, D) of one layer: a step writes its token behind them instead of copying them all."""

    _keys: Tensor  # (B, H, at least S, D)
    _values: Tensor
    _length = 0  # S

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; returns all. In the type of autocast, where it is on: attention would make it of them at every
        step."""
        device = key_states.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            key_states, value_states = key_states.to(kind), value_states.to(kind)
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


class FixedLayer(DynamicLayer):
    """Keys and values (B, H, S, D) of one layer that stay where they are: a step writes its token at a column that a
    tensor names, and reads all columns."""

    def __init__(self, keys: Tensor, values: Tensor, where: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.where = keys, values, where
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one token of each row; returns all columns."""
        keys, values = cast(Tensor, self.keys), cast(Tensor, self.values)
        keys.index_copy_(2, self.where, key_states.to(keys.dtype))
        values.index_copy_(2, self.where, value_states.to(values.dtype))
        return keys, values

    def get_seq_length(self) -> int:
        """As if all columns but the one that is written were there: what is, the mask says."""
        return cast(Tensor, self.keys).shape[-2] - 1


class FixedCache(Cache):
    """A cache of such layers."""

    def __init__(self, layers: Sequence[FixedLayer]) -> None:
        super().__init__(layers=list(layers))

    @classmethod
    def made(
        cls,
        like: Sequence[tuple[Tensor, Tensor]],
        rows: int,
        columns: int,
        where: Tensor,
        kind: torch.dtype | None = None,
    ) -> "FixedCache":
        """Empty, for keys and values like these in all but rows and columns; `kind`: another type. `where`: (1,)."""

        def empty(x: Tensor) -> Tensor:
            return torch.zeros(rows, x.shape[1], columns, x.shape[3], dtype=kind or x.dtype, device=x.device)

        return cls([FixedLayer(empty(keys), empty(values), where) for keys, values in like])

    def part(self, rows: int, columns: int) -> "FixedCache":
        """The first rows and columns, at the same place."""

        def first(x: Tensor) -> Tensor:
            return x[:rows, :, :columns]

        where = cast(FixedLayer, self.layers[0]).where
        return FixedCache([FixedLayer(first(keys), first(values), where) for keys, values in contents(self)])

    def fill(self, layers: Sequence[tuple[Tensor, Tensor]], rows: Tensor) -> None:
        """Write keys and values of some rows to the first columns."""
        for pair, other in zip(contents(self), layers, strict=True):
            for mine, theirs in zip(pair, other, strict=True):
                mine[: len(rows), :, : theirs.shape[2]] = theirs[rows]


def contents(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer."""
    return [(layer.keys, layer.values) for layer in cast(list[DynamicLayer], cache.layers)]  # type: ignore[misc]


def _longer(tensor: Tensor, length: int) -> Tensor:
    batch, heads, have, width = tensor.shape
    found = tensor.new_empty(batch, heads, length, width)
    found[:, :, :have] = tensor
    return found
