"""One pass over what several prompts begin with, then one over how each goes on: the responses of a group share the
instruction and the question."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from yonder.errors import ModelError
from yonder.models.padding import right_pad
from yonder.models.trunk import Trunk

Tokens = list[int]


class Group(NamedTuple):
    """Sequences with a common beginning."""

    rows: tuple[int, ...]
    prefix: int  # tokens that all of them begin with; at least one token of each comes after it


def groups(sequences: Sequence[Tokens], questions: Sequence[str]) -> list[Group]:
    """Sequences by question, each group with its longest common beginning; 0 for a question that is asked once."""
    members: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        members.setdefault(question, []).append(i)
    return [
        Group(tuple(rows), common([sequences[i] for i in rows]) if len(rows) > 1 else 0) for rows in members.values()
    ]


def common(sequences: Sequence[Tokens]) -> int:
    """Number of tokens that all sequences begin with, less than the shortest has."""
    first, last = min(sequences), max(sequences)  # what the extremes of the sorted order share, all share
    longest = min(map(len, sequences)) - 1
    return next((i for i in range(longest) if first[i] != last[i]), longest)


def group_batches(sequences: Sequence[Tokens], found: Sequence[Group], budget: int) -> list[list[Group]]:
    """Groups of similar length, as many as stay within `budget` tokens with padding and a copy of the prefix for each
    row; a group that is too large alone is cut."""
    batches: list[list[Group]] = []
    rows = prefix = rest = 0

    def longest(group: Group) -> int:
        return max(len(sequences[i]) for i in group.rows) - group.prefix

    for group in sorted(found, key=lambda group: (longest(group), group.prefix)):
        fit = max(1, budget // (group.prefix + longest(group)))
        for start in range(0, len(group.rows), fit):
            part = Group(group.rows[start : start + fit], group.prefix)
            wider, longer = max(prefix, part.prefix), max(rest, longest(part))
            if batches and (rows + len(part.rows)) * (wider + longer) <= budget:
                batches[-1].append(part)
                rows, prefix, rest = rows + len(part.rows), wider, longer
            else:
                batches.append([part])
                rows, prefix, rest = len(part.rows), part.prefix, longest(part)
    return batches


@torch.no_grad()
def last_hidden(trunk: Trunk, sequences: Sequence[Tokens], batch: Sequence[Group], device: torch.device) -> Tensor:
    """Hidden states (B, D) at the last token of every row of the batch, in the order of its groups."""
    rows = [(i, number) for number, group in enumerate(batch) for i in group.rows]
    owner = torch.tensor([number for _, number in rows], device=device)
    prefixes, kept = right_pad([sequences[group.rows[0]][: group.prefix] for group in batch], device)
    rests, real = right_pad([sequences[i][batch[number].prefix :] for i, number in rows], device)
    options: dict[str, Any] = {}
    if prefixes.shape[1]:
        cache = trunk.body(input_ids=prefixes, use_cache=True).past_key_values
        cache.batch_select_indices(owner)
        lengths = real.sum(-1, keepdim=True)
        steps = torch.arange(rests.shape[1], device=device).expand_as(rests).minimum(lengths - 1)
        options = {
            "past_key_values": cache,
            "attention_mask": torch.cat([kept[owner], real], dim=-1),
            "position_ids": kept.sum(-1)[owner, None] + steps,
        }
    hidden = trunk.body(input_ids=rests, **options)[0]
    return hidden[torch.arange(len(rows), device=hidden.device), (real.sum(-1) - 1).to(hidden.device)]


def check(trunk: Trunk) -> None:
    """ModelError for a model whose hidden states after a shared prefix are not those of the whole sequence."""
    config, device = trunk.model.config, next(trunk.model.parameters()).device
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    name = type(trunk.model).__name__
    if slides or not trunk.takes_positions:
        raise ModelError(f"{name} cannot go on from a shared prefix; set the judge's `share_prefix: false`")
    sequences = [[*range(1, 6), *range(7, 7 + n)] for n in (2, 3)] + [[*range(2, 10), 3], [*range(2, 10), 4, 5]]
    batch = [Group((0, 1), 5), Group((2, 3), 8)]
    ours = last_hidden(trunk, sequences, batch, device).float()
    tokens, mask = right_pad(sequences, device)
    whole = trunk.hidden(tokens, None)[torch.arange(len(sequences), device=device), mask.sum(-1) - 1].float()
    if (ours - whole).abs().max() > 0.05 * whole.abs().max():
        raise ModelError(f"{name} gives other results after a shared prefix; set the judge's `share_prefix: false`")
