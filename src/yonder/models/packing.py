"""How a trunk reads rows of tokens: each by itself, or those of one prompt behind a single copy of it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 4096  # tokens of a bundle of several rows: its mask has their square
Bundle = Sequence[Sequence[int]]  # rows of one prompt, those that are the same together


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


def behind_one_prompt(input_ids: Tensor, attention_mask: Tensor, prompts: Tensor, bundles: Sequence[Bundle]) -> Layout:
    """The rows of each bundle as one row: their prompt, then what each has of its own, which sees the prompt and
    itself; rows that are the same stand in one place.

    input_ids, attention_mask: (B, W), right-padded; prompts: (B,) tokens of each row's prompt; bundles: the B rows. The
    result is that of `apart` up to rounding, for models that know a token's place by its position alone.
    """
    device, (count, wide) = input_ids.device, input_ids.shape
    long, lengths = prompts.tolist(), attention_mask.sum(-1).tolist()
    row, begin, name = [0] * count, [0] * count, [0] * count  # of each row's own tokens
    width = 0
    for number, bundle in enumerate(bundles):
        at = long[bundle[0][0]]
        for same in bundle:
            for i in same:
                row[i], begin[i], name[i] = number, at, 1 + same[0]
            at += lengths[same[0]] - long[same[0]]
        width = max(width, at)
    times = torch.arange(wide, device=device).expand(count, -1)
    common, real = times < prompts.unsqueeze(-1), attention_mask.bool()
    firsts, begins = (torch.tensor(x, device=device).unsqueeze(-1) for x in ([width * r for r in row], begin))
    places = torch.where(real, firsts + torch.where(common, times, begins + times - prompts.unsqueeze(-1)), firsts)
    shape, filled = (len(bundles), width), places[real]

    def spread(values: Tensor, empty: int) -> Tensor:
        found = torch.full((shape[0] * width,), empty, device=device, dtype=torch.long)
        return found.scatter(0, filled, values[real]).view(shape)

    owners = torch.where(common, 0, torch.tensor(name, device=device).unsqueeze(-1))
    owner = spread(owners, -1)  # 0: of the prompt
    order = torch.arange(width, device=device)
    allowed = (owner.unsqueeze(1) == 0) | (owner.unsqueeze(1) == owner.unsqueeze(2))
    seen = allowed & (order <= order.unsqueeze(-1)) & ((owner.unsqueeze(1) >= 0) | (order == order.unsqueeze(-1)))
    return Layout(spread(input_ids, 0), seen, spread(times, 0), places)


def bundles_of(
    groups: Sequence[int], prompts: Sequence[int], rows: Sequence[Sequence[int]], width: int, budget: int
) -> list[list[list[int]]]:
    """The rows of a group that are cheapest to read behind one prompt; `prompts`: tokens of each row's prompt; `rows`:
    the tokens of the whole; `width`: of the trunk; `budget`: most tokens of a bundle, as LONGEST, but
    for a single row.

    m different completions of T tokens behind a prompt of P cost 24 D^2 (P + m T) for the layers (Kaplan et al. 2020,
    arXiv 2001.08361) and 4 D (P + m T)^2 for attention, which reads what it then hides; a completion's share of it is
    least at m = sqrt(P (6 D + P)) / T.
    """
    members: dict[int, dict[tuple[int, ...], list[int]]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, {}).setdefault(tuple(rows[i]), []).append(i)
    found: list[list[list[int]]] = []
    for different in members.values():
        ordered = sorted(different.values(), key=lambda same: len(rows[same[0]]), reverse=True)
        prompt = prompts[ordered[0][0]]
        own = [len(rows[same[0]]) - prompt for same in ordered]
        fits = (min(budget, LONGEST) - prompt) // max(1, own[0])
        best = round(math.sqrt(prompt * (6 * width + prompt)) * len(own) / max(1, sum(own)))
        parts = math.ceil(len(own) / max(1, min(fits, best)))
        found += [ordered[part::parts] for part in range(parts)]
    return found


def together(found: Sequence[Bundle], picked: Sequence[int]) -> tuple[list[int], list[list[list[int]]]]:
    """The rows of some bundles, and these bundles as places in that list."""
    rows = [i for number in picked for same in found[number] for i in same]
    place = {row: at for at, row in enumerate(rows)}
    return rows, [[[place[i] for i in same] for same in found[number]] for number in picked]


def tokens_of(bundle: Bundle, prompts: Sequence[int], lengths: Sequence[int]) -> int:
    """How many tokens a bundle has; `lengths`: of each row, with its prompt."""
    return prompts[bundle[0][0]] + sum(lengths[same[0]] - prompts[same[0]] for same in bundle)
