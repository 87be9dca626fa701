"""Sequences of unequal length to tensors, and into batches of a token budget."""

from collections.abc import Sequence

import torch
from torch import Tensor

AT_ONCE = {"cpu": 2048}  # tokens: what a layer makes of them stays in the processor's caches (docs/performance.md)
AT_ONCE_ELSEWHERE = 16384


def tokens_at_once(asked: int | None, device: torch.device | str) -> int:
    """The token budget of one forward: as asked for, else the device's own."""
    return AT_ONCE.get(torch.device(device).type, AT_ONCE_ELSEWHERE) if asked is None else asked


def right_pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask, (B, S) each; pads stand after the end, where a causal model cannot see them."""
    width = max(len(ids) for ids in sequences)
    tokens = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for i, ids in enumerate(sequences):
        tokens[i, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        mask[i, : len(ids)] = 1
    return tokens.to(device), mask.to(device)


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices sorted by length and cut into batches whose padded size stays within `budget` tokens (one sequence at
    least)."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
