"""The policy in training: a causal LM, and for PPO a value head on the same trunk."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from yonder.core.logprobs import token_statistics
from yonder.models.packing import apart, merged
from yonder.models.teacher import Guide
from yonder.models.trunk import Trunk

LOGITS_AT_ONCE = 32 * 1024 * 1024  # elements of one chunk of logits


class SequenceOutputs(NamedTuple):
    """What one forward says of every completion token; zero outside the mask."""

    logprobs: Tensor  # (B, T) policy_logprobs, nats
    entropy: Tensor  # (B, T) nats
    values: Tensor | None  # (B, T, K) when the policy has a value head
    final_values: Tensor | None = None  # (B, K) of the state after the last token; no gradient
    divergences: tuple[Tensor, ...] = ()  # (B, T) reverse KL to each guide's teacher, nats


class Policy(nn.Module):
    """Log-probs, entropies and values of completions from ONE forward of the shared trunk ([J] section 2.1)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, value_outputs: int = 0) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.trunk = Trunk(model)
        self.autocast: torch.dtype | None = None
        self.home: torch.device | None = None  # where it computes, while its weights may wait elsewhere
        width = self.trunk.head.in_features
        self.value_head = nn.Linear(width, value_outputs, device=self.device) if value_outputs else None
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.home or next(self.model.parameters()).device

    def mixed_precision(self) -> torch.autocast | nullcontext[None]:
        """The context of every forward: autocast to the recipe's type, or nothing."""
        return torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        completion_starts: Tensor,
        completion_mask: Tensor,
        temperature: float,
        guides: Sequence[Guide] = (),
        stop_gradient: bool = False,
        sizes: Sequence[int] | None = None,
    ) -> SequenceOutputs:
        """Statistics of the completion tokens of right-padded sequences.

        input_ids, attention_mask: (B, S) prompt then completion; completion_starts: (B,) index of the first
        completion token;
        completion_mask: (B, T). Only completion positions pass through the output head. The value head is
        float32; with `stop_gradient` its loss leaves the trunk alone. `sizes`: so many rows, one after the other, are
        read as one each time, what they begin with once; for a trunk that can: `models.sharing`.
        """
        with self.mixed_precision():
            rows = (input_ids, attention_mask)
            layout = apart(*rows) if sizes is None else merged(*rows, sizes)
            offsets = torch.arange(completion_mask.shape[1], device=input_ids.device)
            targets = (completion_starts.unsqueeze(-1) + offsets).clamp(max=input_ids.shape[1] - 1)  # (B, T)
            kept = completion_mask.bool()
            sources = layout.places.gather(1, (targets - 1).clamp(min=0))
            ends = layout.places.gather(1, attention_mask.sum(-1, keepdim=True) - 1).squeeze(1)
            if self.value_head is None:
                ends = ends[:0]
            # (N, D): the state from which each completion token was sampled; (B, D): the last one
            found = self.trunk.read(layout, torch.cat([sources[kept], ends]))
            states, last = found[: len(found) - len(ends)], found[len(found) - len(ends) :]
            ids = input_ids.gather(1, targets)[kept]
            if sizes is None:
                logprobs, entropy = self._statistics(states, ids, temperature)
            else:  # tokens that several rows have stand in one place
                one, of = _distinct(layout.places.gather(1, targets)[kept])
                logprobs, entropy = (x[of] for x in self._statistics(states[one], ids[one], temperature))
            spread = completion_mask.new_zeros(kept.shape, dtype=torch.float32)
            divergences = [spread] * len(guides)
            for i, (teacher, asked) in enumerate(guides):
                if bool(asked.any()):
                    theirs = teacher.states(layout, sources[asked.bool()])
                    ours, size = states[asked.bool()[kept]], self._chunk
                    distance = teacher.divergence(self.trunk.head, ours, theirs, temperature, size)
                    divergences[i] = spread.masked_scatter(asked.bool(), distance)
        values, final = None, None
        if self.value_head is not None:
            flat = self.value_head(states.detach().float() if stop_gradient else states.float())
            values = flat.new_zeros(*kept.shape, flat.shape[-1]).masked_scatter(kept.unsqueeze(-1), flat)
            final = self.value_head(last.detach().float()).detach()
        statistics = (spread.masked_scatter(kept, logprobs), spread.masked_scatter(kept, entropy))
        return SequenceOutputs(*statistics, values, final, tuple(divergences))

    def logits(self, input_ids: Tensor, attention_mask: Tensor, read: Tensor) -> Tensor:
        """Logits of the next token at the positions `read` (B, S - 1). input_ids, attention_mask: (B, S) -> (N, V)."""
        with self.mixed_precision():
            return self.trunk.head(self.trunk.hidden(input_ids, attention_mask)[:, :-1][read])

    @property
    def _chunk(self) -> int:
        """Rows of logits that exist at once."""
        return max(1, LOGITS_AT_ONCE // self.trunk.head.out_features)

    def _statistics(self, states: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies in chunks, so that no (N, V) tensor of the whole batch exists."""
        size = self._chunk
        if states.shape[0] <= size:
            return token_statistics(self.trunk.head(states), ids, temperature)

        def chunk(part: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return token_statistics(self.trunk.head(part), targets, temperature)

        parts = [
            checkpoint(chunk, part, targets, use_reentrant=False)
            for part, targets in zip(states.split(size), ids.split(size), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Where some copy of each different number stands, and which of these every number is a copy of. (N,) -> (D,),
    (N,)."""
    different, of = numbers.unique(return_inverse=True)
    order = torch.arange(len(numbers), device=numbers.device)
    return torch.zeros_like(different).scatter(0, of, order), of
