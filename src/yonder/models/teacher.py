"""A teacher whose next-token distributions the policy is drawn to, on the policy's own completions."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from yonder.core.kl import reverse_kl
from yonder.errors import ModelError
from yonder.models.packing import Layout
from yonder.models.trunk import Trunk


class Teacher:
    """A frozen causal LM with the policy's tokenizer. `top_k`: tokens compared, 0 for all."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, policy: PreTrainedTokenizerBase, top_k: int
    ) -> None:
        """Raises ModelError where the tokenizers differ: token ids would not mean the same."""
        if tokenizer.get_vocab() != policy.get_vocab():
            raise ModelError(
                "teacher and policy have different tokenizers, so their distributions cannot be compared; take a "
                "teacher of the policy's family, or let it judge (a reward of kind judge)"
            )
        self.trunk = Trunk(model)
        self.tokens = len(tokenizer)  # output heads may be padded beyond, and differ there
        self.top_k = top_k

    @torch.no_grad()
    def states(self, layout: Layout, places: Tensor) -> Tensor:
        """Hidden states at some places of a layout, (N,) -> (N, D); rows without any are not read."""
        kept, there = layout.only(places)
        device = self.trunk.head.weight.device
        moved = Layout(*(None if x is None else x.to(device) for x in kept))  # type: ignore[arg-type]
        return self.trunk.read(moved, there.to(device))

    def divergence(self, head: torch.nn.Module, states: Tensor, ours: Tensor, temperature: float, size: int) -> Tensor:
        """Reverse KL of each token, `size` at a time, so that no (N, V) tensor of all exists. `head`, `states` (N, D):
        the policy's; `ours`: the teacher's."""

        def chunk(part: Tensor, frozen: Tensor) -> Tensor:
            with torch.no_grad():
                theirs = self.trunk.head(frozen).to(part.device)
            return reverse_kl(head(part)[:, : self.tokens], theirs[:, : self.tokens], temperature, self.top_k)

        parts = zip(states.split(size), ours.split(size), strict=True)
        return torch.cat([checkpoint(chunk, *part, use_reentrant=False) for part in parts])


class Guide(NamedTuple):
    """A teacher and the tokens it is asked about, (B, T)."""

    teacher: Teacher
    mask: Tensor
