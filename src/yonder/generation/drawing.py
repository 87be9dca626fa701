"""The next token from logits: settings, random numbers, and the draw by the inverse of the cumulative distribution."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from yonder.core.logprobs import keep_top


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one call. `temperature` None is greedy."""

    temperature: float | None
    top_p: float = 1.0
    top_k: int = 0


class Numbers(Protocol):
    """Random numbers in [0, 1) of a batch's rows, float64; asked in one of the two ways."""

    def some(self, rows: list[int]) -> Tensor:
        """The next number of each of these rows, (N, 1)."""
        ...

    def all(self, rows: int, tokens: int) -> Tensor:
        """Those of so many rows for so many tokens, (rows, tokens)."""
        ...


class Together:
    """One generator for all rows."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def some(self, rows: list[int]) -> Tensor:
        """As many as are asked for."""
        return self.all(len(rows), 1)

    def all(self, rows: int, tokens: int) -> Tensor:
        """Row by row."""
        where = self.generator.device
        return torch.rand(rows, tokens, generator=self.generator, device=where, dtype=torch.float64)


class Apart:
    """Numbers of each row's own, one after the other: (rows, at least as many as tokens)."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self.column = 0

    def some(self, rows: list[int]) -> Tensor:
        """From the next column."""
        self.column += 1
        return self.numbers[torch.tensor(rows, device=self.numbers.device), self.column - 1].unsqueeze(-1)

    def all(self, rows: int, tokens: int) -> Tensor:
        """The first columns."""
        return self.numbers[:rows, :tokens]


def own_numbers(seed: int, prompt: int, samples: int, tokens: int) -> Tensor:
    """The random numbers of one prompt, (samples, tokens), float64: the same on every device."""
    generator = torch.Generator().manual_seed(random.Random(f"{seed}/{prompt}").getrandbits(63))
    return torch.rand(samples, tokens, generator=generator, dtype=torch.float64)


def choose(
    logits: Tensor, settings: Sampling, points: Callable[[], Tensor], of: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-prob at the sampling temperature (before top-p and top-k). `points`: a
    random number for each row, (R, 1); `of`: the logits that each row is drawn from, None: its own, and then the host
    waits for nothing. (N, V) -> (R,), (R,)."""
    rows = None if of is None else torch.tensor(of, device=logits.device)
    if settings.temperature is None:
        ids = logits.argmax(-1)
        ids = ids if rows is None else ids[rows]
    else:
        logits = logits / settings.temperature
        probabilities = keep_top(logits, settings.top_k, settings.top_p).softmax(-1)
        ids = _draw(probabilities, points()) if of is None else _draw_of(probabilities, points(), of)
    logprobs = torch.log_softmax(logits, -1)
    return ids, logprobs.gather(-1, ids.unsqueeze(-1)).squeeze(-1) if rows is None else logprobs[rows, ids]


def _draw(probabilities: Tensor, points: Tensor) -> Tensor:
    """An index for each row: one random number a row, not one an entry. (N, V), (N, 1) -> (N,)."""
    mass, total, last = _mass(probabilities)
    return torch.minimum(torch.searchsorted(mass, points * total, right=True), last).squeeze(-1)


def _draw_of(probabilities: Tensor, points: Tensor, of: Sequence[int]) -> Tensor:
    """The same where several rows are drawn from one distribution. (N, V), (R, 1) -> (R,)."""
    mass, total, last = _mass(probabilities)
    seen = [0] * mass.shape[0]
    column = [0] * len(of)  # of each row among those of its distribution
    for row, number in enumerate(of):
        column[row], seen[number] = seen[number], seen[number] + 1
    at = (torch.tensor(of, device=mass.device), torch.tensor(column, device=mass.device))
    asked = mass.new_zeros(mass.shape[0], max(seen))
    asked[at] = points.squeeze(-1) * total.squeeze(-1)[at[0]]
    return torch.minimum(torch.searchsorted(mass, asked, right=True), last)[at]


def _mass(probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cumulative sums, all of it, and the first index that reaches that: nothing beyond it has mass. (N, V), (N, 1),
    (N, 1)."""
    mass = probabilities.double().cumsum(-1)
    total = mass[:, -1:].contiguous()
    return mass, total, torch.searchsorted(mass, total)
