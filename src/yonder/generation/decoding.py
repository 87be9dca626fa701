"""One batch of prompts to the end, token by token: what every decoder is given and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from yonder.generation.drawing import Numbers, Sampling
from yonder.models.encoding import PromptEncoder


@dataclass(slots=True)
class Row:
    """One sequence while it grows."""

    prompt: int
    limit: int  # most tokens of its completion
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finished: bool = False

    @property
    def over(self) -> bool:
        """Whether it takes no more tokens: it ended itself, or is as long as it may be."""
        return self.finished or len(self.ids) >= self.limit

    def add(self, token: int, logprob: float, encoder: PromptEncoder) -> bool:
        """Take a token, unless it is over; returns whether it is over with this one."""
        if self.over:
            return False
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.finished = token in encoder.end_ids or encoder.stopped(self.ids)
        return self.over


Over = Callable[[Sequence[Row]], None]  # told of rows that took their last token


class Decoder(Protocol):
    """Writes completions with the live policy."""

    longest_first: bool  # of several batches, the one with the longest prompts

    def decode(
        self, prompts: Sequence[tuple[int, ...]], rows: Sequence[Row], settings: Sampling, numbers: Numbers, over: Over
    ) -> None:
        """Fill the rows; those of one prompt stand beside each other. Without gradients, in the policy's mixed
        precision."""
        ...

    def rest(self) -> None:
        """Nothing is asked for a while."""
        ...


def left_pad(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask, (B, W) each: all prompts end in the last column."""
    width = max(len(ids) for ids in prompts)
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, ids in enumerate(prompts):
        tokens[i, width - len(ids) :] = torch.tensor(ids)
        mask[i, width - len(ids) :] = 1
    return tokens.to(device), mask.to(device)
