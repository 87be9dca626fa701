"""The prompts of one question read behind a single copy of what they begin with: the instruction and the question."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from yonder.models.packing import apart, behind_one_prompt, bundles_of, together, tokens_of
from yonder.models.padding import right_pad, token_batches
from yonder.models.trunk import Trunk

Tokens = list[int]


def common(sequences: Sequence[Tokens]) -> int:
    """Number of tokens that all sequences begin with, less than the shortest has."""
    first, last = min(sequences), max(sequences)  # what the extremes of the sorted order share, all share
    longest = min(map(len, sequences)) - 1
    return next((i for i in range(longest) if first[i] != last[i]), longest)


@torch.no_grad()
def last_hidden(
    trunk: Trunk, sequences: Sequence[Tokens], questions: Sequence[str], budget: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and their hidden states (B, D) at the last token, in batches of at most `budget` tokens with padding."""
    members: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        members.setdefault(question, []).append(i)
    groups, prefixes = [0] * len(sequences), [0] * len(sequences)
    for number, rows in enumerate(members.values()):
        shared = common([sequences[i] for i in rows])
        for i in rows:
            groups[i], prefixes[i] = number, shared
    found = bundles_of(groups, prefixes, sequences, trunk.width, budget)
    lengths = [len(tokens) for tokens in sequences]
    for picked in token_batches([tokens_of(bundle, prefixes, lengths) for bundle in found], budget):
        rows, bundles = together(found, picked)
        tokens, mask = right_pad([sequences[i] for i in rows], device)
        if len(bundles) == len(rows):
            layout = apart(tokens, mask)
        else:
            layout = behind_one_prompt(tokens, mask, torch.tensor([prefixes[i] for i in rows], device=device), bundles)
        hidden = trunk.read(layout)
        ends = layout.places.gather(1, mask.sum(-1, keepdim=True) - 1).squeeze(1)
        yield rows, hidden[ends.to(hidden.device)]
