"""How a trunk reads rows of tokens: each by itself, or several as one row, where what they begin with stands once."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 4096  # tokens of a bundle of several rows: its mask has their square
MOST = 64  # rows of a bundle: one more would save less than a 64th of what they share
LEAST = 1 / 16  # of all tokens: saving fewer is not worth masks and batches of their own
HIDDEN = 2  # what a pair of tokens costs where a mask says which see each other, in those of a causal kernel


class Bundle(NamedTuple):
    """Rows that are read as one."""

    rows: list[int]  # beside each other those that begin alike
    tokens: int  # of the prefix tree that they are


class Layout(NamedTuple):
    """R rows of width S as a trunk reads them, and where each token of the B rows of width W that they hold stands."""

    input_ids: Tensor  # (R, S)
    seen: Tensor  # (R, S) True on tokens; or (R, S, S) True where the first reads the second
    positions: Tensor | None  # (R, S); None: 0, 1, 2 and so on
    places: Tensor  # (B, W) index into the R * S tokens; anything behind a row's end

    def only(self, places: Tensor) -> tuple["Layout", Tensor]:
        """The rows that hold some places, and those places in it. (N,) -> (N,)."""
        width = self.input_ids.shape[1]
        rows, numbers = (places // width).unique(return_inverse=True)
        kept = Layout(*(None if x is None else x[rows] for x in self[:3]), self.places)  # type: ignore[arg-type]
        return kept, numbers * width + places % width


def apart(input_ids: Tensor, attention_mask: Tensor) -> Layout:
    """Each right-padded row by itself. (B, S), (B, S)."""
    places = torch.arange(input_ids.numel(), device=input_ids.device).view_as(input_ids)
    return Layout(input_ids, attention_mask, None, places)


def merged(input_ids: Tensor, attention_mask: Tensor, sizes: Sequence[int]) -> Layout:
    """So many rows, one after the other, as one row each time: a prefix tree, in which a token reads those on its way
    from the root. What a row has in common with the one before it is not repeated.

    input_ids, attention_mask: (B, W), right-padded; sizes: add up to B. The result is that of `apart` up to rounding,
    for models that know a token's place by its position alone.
    """
    device, (count, wide) = input_ids.device, input_ids.shape
    real, times = attention_mask.bool(), torch.arange(wide, device=device)
    shared = (input_ids[1:] == input_ids[:-1]) & real[1:] & real[:-1]
    common = torch.cat([shared.new_zeros(1), shared.long().cumprod(-1).sum(-1)])  # (B,) with the row before
    starts = torch.tensor([0, *accumulate(sizes)][:-1], device=device)
    common[starts] = 0
    order, number = torch.arange(count, device=device), torch.zeros(count, dtype=torch.long, device=device)
    number[starts[1:]] = 1
    number = number.cumsum(0)  # (B,) of each row's bundle
    own = real.sum(-1) - common
    begins = own.cumsum(0) - own  # of a row's own tokens among all of them
    begins = begins - begins[starts][number]
    width = clear(int((begins + own).max()), device)
    # the row whose own each token is: the last one, up to this, that has not this depth in common with the one before
    owner = torch.where(common.unsqueeze(-1) <= times, order.unsqueeze(-1), 0).cummax(0).values  # (B, W)
    places = (number * width + begins - common)[owner] + times
    new = real & (times >= common.unsqueeze(-1))
    filled, shape = places[new], (len(sizes), width)

    def spread(values: Tensor, empty: int) -> Tensor:
        found = torch.full((shape[0] * width,), empty, device=device, dtype=torch.long)
        return found.scatter(0, filled, values[new]).view(shape)

    # a token is on the way of the rows from its owner to the last one that has it: (R, S) each
    first, depth = spread(owner, -1), spread(times.expand(count, -1), 0)
    last = torch.full((shape[0] * width,), -1, device=device).scatter_reduce(
        0, places[real], order.unsqueeze(-1).expand(-1, wide)[real], "amax"
    )
    reader, read = first.unsqueeze(2), first.unsqueeze(1)
    seen = (read <= reader) & (reader <= last.view(shape).unsqueeze(1)) & (depth.unsqueeze(1) <= depth.unsqueeze(2))
    return Layout(spread(input_ids, 0), seen, depth, places.where(real, 0))


def clear(width: int, device: torch.device) -> int:
    """A width for rows with a mask. On Hopper GPUs cuDNN's attention, torch's first choice, gives gradients that are no
    numbers for masked rows of 64 tokens beyond a multiple of 128 (pytorch/pytorch#196678)."""
    return width + 1 if device.type == "cuda" and width % 128 == 64 else width


def bundles_of(rows: Sequence[Sequence[int]], width: int, budget: int, parts: int = 1) -> list[Bundle]:
    """The rows that are cheapest to read as one. `width`: of the trunk; `budget`: most tokens of a bundle, as LONGEST,
    but for a single row; `parts`: as many readers share them out.

    N tokens cost 24 D^2 N for the layers (Kaplan et al. 2020, arXiv 2001.08361) and 4 D N^2 for attention, in a bundle
    HIDDEN times that: it reads what it then hides, and the mask. Rows in alphabetical order are cut where the sum is
    least; all stay alone where that saves less than LEAST.
    """
    most = min(MOST, math.ceil(len(rows) / parts))
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    shared = [0, *(_common(rows[a], rows[b]) for a, b in pairwise(order))]  # each with the one before
    least, cuts, sizes = [0.0], [0], [0]
    for end in range(1, len(order) + 1):
        own, best = 0, (float("inf"), 0, 0)
        for begin in range(end - 1, max(-1, end - 1 - most), -1):
            length = len(rows[order[begin]])
            tokens = own + length
            if own and tokens > min(budget, LONGEST):
                break
            attention = tokens * (HIDDEN if own else 1.0)
            best = min(best, (least[begin] + tokens * (6.0 * width + attention), begin, tokens))
            if not shared[begin]:
                break
            own += length - shared[begin]
        for found, one in zip((least, cuts, sizes), best, strict=True):
            found.append(one)  # type: ignore[arg-type]
    bundles: list[Bundle] = []
    end = len(order)
    while end:
        bundles.append(Bundle(order[cuts[end] : end], sizes[end]))
        end = cuts[end]
    if sum(bundle.tokens for bundle in bundles) > (1 - LEAST) * sum(map(len, rows)):
        return [Bundle([i], len(rows[i])) for i in order]
    return bundles[::-1]


def kinds(bundles: Sequence[Bundle]) -> tuple[list[int], list[int]]:
    """The numbers of single rows and of the others, which are read in batches of their own: those need no mask."""
    single = [number for number, bundle in enumerate(bundles) if len(bundle.rows) == 1]
    return single, [number for number, bundle in enumerate(bundles) if len(bundle.rows) > 1]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    length = min(len(first), len(second))
    return next((i for i in range(length) if first[i] != second[i]), length)
