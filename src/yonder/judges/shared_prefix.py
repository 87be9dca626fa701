"""Prompts that begin alike, as those of one question do, read as one row, what they share once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from yonder.models.packing import apart, bundles_of, merged
from yonder.models.padding import right_pad, token_batches
from yonder.models.trunk import Trunk


@torch.no_grad()
def last_hidden(
    trunk: Trunk, sequences: Sequence[list[int]], budget: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and their hidden states (B, D) at the last token, in batches of at most `budget` tokens with padding."""
    bundles = bundles_of(sequences, trunk.width, budget)
    for picked in token_batches([bundle.tokens for bundle in bundles], budget):
        rows = [i for number in picked for i in bundles[number].rows]
        tokens, mask = right_pad([sequences[i] for i in rows], device)
        if len(picked) == len(rows):
            layout = apart(tokens, mask)
        else:
            layout = merged(tokens, mask, [len(bundles[number].rows) for number in picked])
        yield rows, trunk.read(layout, layout.places.gather(1, mask.sum(-1, keepdim=True) - 1).squeeze(1))
