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


class Size(NamedTuple):
    """Of a room, at most."""

    rows: int
    columns: int  # of the cache
    tokens: int  # of a completion

    def holds(self, other: "Size") -> bool:
        """Whether the other fits."""
        return all(asked <= have for asked, have in zip(other, self, strict=True))

    def joined(self, other: "Size") -> "Size | None":
        """One for both, unless that is more than twice what the larger takes: many short rows and a few long ones have
        little in common."""
        both = Size(*map(max, self, other))
        larger = max(self.rows * self.columns, other.rows * other.columns)
        return both if both.rows * both.columns <= 2 * larger else None


class Part(NamedTuple):
    """What a step of one shape reads and writes: views of a room."""

    cache: FixedCache
    tokens: Tensor  # (R, 1) last written
    positions: Tensor  # (R, 1) of these
    last: Tensor  # (R, 1) the last position that a row may have
    seen: Tensor  # (R, S) which columns of the cache a row has
    numbers: Tensor  # (R, T) random
    ids: Tensor  # (R, T) written
    logprobs: Tensor  # (R, T)
    where: Tensor  # (1,) column of the cache for the last written
    column: Tensor  # (1,) how many are written
    kind: torch.dtype  # of masks


@dataclass(slots=True)
class Room:
    """The tensors of a whole batch, as `Part` names them, for at most so many rows, columns and tokens."""

    size: Size
    cache: FixedCache
    tokens: Tensor
    positions: Tensor
    last: Tensor
    seen: Tensor
    numbers: Tensor
    ids: Tensor
    logprobs: Tensor
    where: Tensor
    column: Tensor
    kind: torch.dtype
    width: int = 0  # columns of the cache that are written

    @classmethod
    def made(cls, size: Size, layers: Sequence[tuple[Tensor, Tensor]], policy: Policy) -> "Room":
        """Room for keys and values like these."""
        rows, columns, tokens = size
        device, kind = policy.device, policy.trunk.head.weight.dtype
        if policy.autocast is not None and policy.trunk.attention == "sdpa":  # which takes all in one type
            kind = policy.autocast

        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        where = zeros(1)
        return cls(
            size=size,
            cache=FixedCache.made(layers, rows, columns, where, policy.autocast),
            tokens=zeros(rows, 1),
            positions=zeros(rows, 1),
            last=zeros(rows, 1),
            seen=zeros(rows, columns, dtype=torch.bool),
            numbers=zeros(rows, tokens, dtype=torch.float64),
            ids=zeros(rows, tokens),
            logprobs=zeros(rows, tokens, dtype=torch.float32),
            where=where,
            column=zeros(1),
            kind=kind,
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        cached = [x for pair in contents(self.cache) for x in pair]
        return [*cached, self.tokens, self.positions, self.last, self.seen, self.numbers, self.ids, self.logprobs]

    def clear(self, size: Size) -> None:
        """As if it were new, as far as such a batch reaches."""
        for pair in contents(self.cache):
            for x in pair:
                x[: size.rows, :, : size.columns] = 0
        for x in (self.tokens, self.positions, self.last, self.seen, self.numbers):
            x[: size.rows] = 0

    def part(self, rows: int, columns: int) -> Part:
        """The first of them."""
        return Part(
            cache=self.cache.part(rows, columns),
            tokens=self.tokens[:rows],
            positions=self.positions[:rows],
            last=self.last[:rows],
            seen=self.seen[:rows, :columns],
            numbers=self.numbers[:rows],
            ids=self.ids[:rows],
            logprobs=self.logprobs[:rows],
            where=self.where,
            column=self.column,
            kind=self.kind,
        )


def rounded(count: int, least: int) -> int:
    """Up to a size that steps come in: `least` times 1, 2, 3, 4, 6, 8, 12, 16 and so on."""
    units = -(-count // least)
    power = 1 << max(0, units - 1).bit_length()
    return least * (power * 3 // 4 if power >= 4 and power * 3 // 4 >= units else power)
