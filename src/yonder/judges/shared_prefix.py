"""Prompts that begin alike, as those of one question do, read as one row, what they share once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from yonder.models.packing import apart, bundles_of, kinds, merged
from yonder.models.padding import right_pad, token_batches
from yonder.models.trunk import Trunk


@torch.no_grad()
def last_hidden(
    trunk: Trunk, sequences: Sequence[list[int]], budget: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and their hidden states (B, D) at the last token, in batches of at most `budget` tokens with padding."""
    bundles = bundles_of(sequences, trunk.width, budget)
    for numbers in kinds(bundles):
        for picked in token_batches([bundles[number].tokens for number in numbers], budget):
            sizes = [len(bundles[numbers[i]].rows) for i in picked]
            rows = [row for i in picked for row in bundles[numbers[i]].rows]
            tokens, mask = right_pad([sequences[row] for row in rows], device)
            layout = apart(tokens, mask) if len(picked) == len(rows) else merged(tokens, mask, sizes)
            yield rows, trunk.read(layout, layout.places.gather(1, mask.sum(-1, keepdim=True) - 1).squeeze(1))
