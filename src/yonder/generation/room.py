"""Tensors of a batch that never move: what a step of sampling reads and writes, and the sizes that it comes in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from yonder.generation.cache import FixedCache, contents
from yonder.models.policy import Policy

COLUMNS = 128  # of the cache, at least; widths are multiples of it
ROWS = 8


class Part(NamedTuple):
    """What a step of one shape reads and writes: views of a room."""

    cache: FixedCache
    tokens: Tensor  # (R, 1) last written
    positions: Tensor  # (R, 1) of these
    seen: Tensor  # (R, S) which columns of the cache a row has
    numbers: Tensor  # (R, T) random
    ids: Tensor  # (R, T) written
    logprobs: Tensor  # (R, T)
    where: Tensor  # (1,) column of the cache for the last written
    column: Tensor  # (1,) how many are written
    kind: torch.dtype  # of queries


@dataclass(slots=True)
class Room:
    """The tensors of a whole batch, as `Part` names them, for at most so many rows, columns and tokens."""

    size: tuple[int, ...]
    cache: FixedCache
    tokens: Tensor
    positions: Tensor
    seen: Tensor
    numbers: Tensor
    ids: Tensor
    logprobs: Tensor
    where: Tensor
    column: Tensor
    kind: torch.dtype
    width: int = 0  # columns of the cache that are written

    @classmethod
    def made(cls, size: tuple[int, ...], layers: Sequence[tuple[Tensor, Tensor]], policy: Policy) -> "Room":
        """Room for keys and values like these."""
        rows, columns, tokens = size
        kind, device = policy.autocast or policy.trunk.head.weight.dtype, policy.device

        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        where = zeros(1)
        return cls(
            size, FixedCache.made(layers, rows, columns, where, policy.autocast), zeros(rows, 1), zeros(rows, 1),
            zeros(rows, columns, dtype=torch.bool), zeros(rows, tokens, dtype=torch.float64), zeros(rows, tokens),
            zeros(rows, tokens, dtype=torch.float32), where, zeros(1), kind,
        )  # fmt: skip

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        cached = [x for pair in contents(self.cache) for x in pair]
        return [*cached, self.tokens, self.positions, self.seen, self.numbers, self.ids, self.logprobs]

    def holds(self, size: tuple[int, ...]) -> bool:
        """Whether so many rows, columns and tokens fit."""
        return all(asked <= have for asked, have in zip(size, self.size, strict=True))

    def part(self, rows: int, columns: int) -> Part:
        """The first of them."""
        return Part(
            self.cache.part(rows, columns), self.tokens[:rows], self.positions[:rows], self.seen[:rows, :columns],
            self.numbers[:rows], self.ids[:rows], self.logprobs[:rows], self.where, self.column, self.kind,
        )  # fmt: skip


def rounded(count: int, least: int) -> int:
    """Up to a size that steps come in: `least` times 1, 2, 3, 4, 6, 8, 12, 16 and so on."""
    units = -(-count // least)
    power = 1 << max(0, units - 1).bit_length()
    return least * (power * 3 // 4 if power >= 4 and power * 3 // 4 >= units else power)
