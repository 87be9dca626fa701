"""The tensors of one rollout batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from yonder.models.packing import Bundle, bundles_of
from yonder.models.padding import right_pad
from yonder.schema import Rollout
from yonder.training.rollout import StreamRollouts

_PER_ROW = ("completion_starts", "groups", "scores", "scored", "truncated", "final_values")


@dataclass(frozen=True, slots=True)
class Batch:
    """B rollouts of all streams, one row each; completions are left-aligned in (B, T)."""

    input_ids: Tensor  # (B, S) prompt then completion, right-padded
    attention_mask: Tensor  # (B, S)
    completion_starts: Tensor  # (B,) index of the first completion token
    completion_mask: Tensor  # (B, T) 1.0 on completion tokens
    rollout_logprobs: Tensor  # (B, T) recorded while sampling
    groups: Tensor  # (B,) rollouts of one prompt share a number
    scores: Tensor  # (B, K) what each term's reward gave; 0 where unscored
    scored: Tensor  # (B, K) 1.0 where the row belongs to the term's stream and has a score
    old_logprobs: Tensor  # (B, T) the policy before this update
    reference_logprobs: Tensor  # (B, T)
    old_values: Tensor  # (B, T, K); zeros without a value head
    advantages: Tensor  # (B, T, K)
    returns: Tensor  # (B, T, K)
    truncated: Tensor  # (B,) 1.0 where the completion was cut at the length limit
    final_values: Tensor  # (B, K) of the state after the last token; zeros without a value head

    def rows(self, index: Sequence[int]) -> Batch:
        """Some rows, cut to their own longest sequence and completion."""
        picked = torch.tensor(list(index), device=self.input_ids.device)
        mask = self.completion_mask[picked]
        tokens = int(mask.sum(-1).max().item())
        width = int(self.attention_mask[picked].sum(-1).max().item())
        short = {name: getattr(self, name)[picked][:, :width] for name in ("input_ids", "attention_mask")}
        per_token = ("rollout_logprobs", "old_logprobs", "reference_logprobs", "old_values", "advantages", "returns")
        cut = {name: getattr(self, name)[picked][:, :tokens] for name in per_token}
        per_row = {name: getattr(self, name)[picked] for name in _PER_ROW}
        return Batch(completion_mask=mask[:, :tokens], **short, **cut, **per_row)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt and completion."""
        return self.attention_mask.sum(-1).tolist()

    def bundles(self, width: int, budget: int, parts: int = 1) -> list[Bundle]:
        """The rows that are read as one by a trunk of this width, as `bundles_of` says; width 0: each by itself."""
        if not width:
            return [Bundle([i], length) for i, length in enumerate(self.lengths)]
        rows = [ids[:length] for ids, length in zip(self.input_ids.tolist(), self.lengths, strict=True)]
        return bundles_of(rows, width, budget, parts)

    def with_(self, **tensors: Tensor) -> Batch:
        """A copy with some tensors replaced."""
        return replace(self, **tensors)


def pack(rollouts: Sequence[Rollout], groups: Sequence[int], terms: int, device: torch.device) -> Batch:
    """Tensors of a list of rollouts; what is not known yet is zero. Empty completions never occur: a sampler gives
    >= 1 token."""
    sequences = [[*rollout.prompt_ids, *rollout.completion.token_ids] for rollout in rollouts]
    input_ids, attention_mask = right_pad(sequences, device)
    length = max(len(rollout.completion.token_ids) for rollout in rollouts)
    mask = torch.zeros(len(rollouts), length)
    logprobs = torch.zeros(len(rollouts), length)
    for i, rollout in enumerate(rollouts):
        mask[i, : len(rollout.completion.token_ids)] = 1
        logprobs[i, : len(rollout.completion.token_ids)] = torch.tensor(rollout.completion.logprobs)
    mask = mask.to(device)
    per_term = mask.new_zeros(len(rollouts), length, terms)
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        completion_starts=torch.tensor([len(rollout.prompt_ids) for rollout in rollouts], device=device),
        completion_mask=mask,
        rollout_logprobs=logprobs.to(device),
        groups=torch.tensor(list(groups), device=device),
        scores=mask.new_zeros(len(rollouts), terms),
        scored=mask.new_zeros(len(rollouts), terms),
        old_logprobs=torch.zeros_like(mask),
        reference_logprobs=torch.zeros_like(mask),
        old_values=per_term,
        advantages=per_term,
        returns=per_term,
        truncated=torch.tensor([float(not rollout.completion.finished) for rollout in rollouts], device=device),
        final_values=mask.new_zeros(len(rollouts), terms),
    )


def flatten(rollouts: StreamRollouts) -> tuple[list[Rollout], list[int]]:
    """All rollouts, stream after stream, and a group number that is unique over streams."""
    members: list[Rollout] = []
    groups: list[int] = []
    for found in rollouts.values():
        offset = 1 + max(groups, default=-1)
        members += found
        groups += [offset + rollout.group for rollout in found]
    return members, groups
