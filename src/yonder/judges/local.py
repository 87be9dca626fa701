"""The local judge: one forward, the last real position, the fp32 difference of two rows of the output head."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from yonder.errors import ModelError
from yonder.judges.prompt import JudgePrompt, too_long
from yonder.judges.shared_prefix import last_hidden
from yonder.models.loading import CausalLM
from yonder.models.packing import apart
from yonder.models.padding import right_pad, token_batches, tokens_at_once
from yonder.models.sharing import shares_prompts
from yonder.models.trunk import Trunk
from yonder.rewards.judge import Verdict


class LocalJudge:
    """Scores (question, response) pairs with a causal language model in this process."""

    def __init__(
        self,
        model: CausalLM,
        prompt: JudgePrompt,
        max_tokens: int,
        batch_tokens: int | None,
        share_prefix: bool | Literal["auto"] = False,
    ) -> None:
        """`share_prefix`: what several prompts begin with is computed once; ModelError where the model cannot, `auto`:
        where it can."""
        self.trunk = Trunk(model)
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.device = next(model.parameters()).device
        self.batch_tokens = tokens_at_once(batch_tokens, self.device)
        self.tokens_read = 0  # so far, without pads
        self.share_prefix = bool(share_prefix) and shares_prompts(self.trunk, self.device)
        if share_prefix is True and not self.share_prefix:
            name = type(model).__name__
            raise ModelError(f"{name} cannot read prompts behind a shared prefix; leave the judge's `share_prefix` out")

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict a pair, in order; a pure function of weights and texts up to rounding."""
        encoded = [self.prompt.tokens(question, response, self.max_tokens) for question, response in pairs]
        out = [Verdict(reason=too_long(self.max_tokens), truncated=True) for _ in pairs]
        asked = [i for i, (ids, _) in enumerate(encoded) if ids]
        sequences = [encoded[i][0] for i in asked]
        self.tokens_read += sum(map(len, sequences))
        for rows, last in self._passes(sequences):
            gaps, mass = self._read(last)
            for row, gap, share in zip(rows, gaps.tolist(), mass.tolist(), strict=True):
                i = asked[row]
                usable = math.isfinite(gap) and math.isfinite(share)  # without mass a verdict is unscored, not zero
                out[i] = Verdict(logit_gap=gap, mass=share if usable else 0.0, truncated=encoded[i][1])
        return out

    @torch.no_grad()
    def _passes(self, sequences: list[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Rows and their hidden states (B, D) at the last position, batch by batch."""
        if self.share_prefix:
            yield from last_hidden(self.trunk, sequences, self.batch_tokens, self.device)
            return
        for rows in token_batches([len(ids) for ids in sequences], self.batch_tokens):
            tokens, mask = right_pad([sequences[i] for i in rows], self.device)
            layout = apart(tokens, mask)
            yield rows, self.trunk.read(layout, layout.places.gather(1, mask.sum(-1, keepdim=True) - 1).squeeze(1))

    @torch.no_grad()
    def _read(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """z_yes - z_no (of several spellings: log-sum-exp) in fp32 and P(yes) + P(no), from hidden states (B, D)."""
        logits = self.trunk.head(last).float()
        labels = self.prompt.labels
        if len(labels.yes_ids) == len(labels.no_ids) == 1:
            gap = self._difference(last, labels.yes_ids[0], labels.no_ids[0])
        else:
            sides = [self._rows(last, ids).logsumexp(-1) for ids in (labels.yes_ids, labels.no_ids)]
            gap = sides[0] - sides[1]
        both = logits[:, [*labels.yes_ids, *labels.no_ids]]
        return gap, (both.logsumexp(-1) - logits.logsumexp(-1)).exp()

    def _rows(self, last: Tensor, ids: Sequence[int]) -> Tensor:
        """Logits of some tokens in fp32, whatever the weights' type: (B, D) -> (B, tokens)."""
        weight, bias = self.trunk.head.weight, cast(Tensor | None, self.trunk.head.bias)
        found = last.to(weight.device).float() @ weight[list(ids)].float().T
        return found if bias is None else found + bias[list(ids)].float()

    def _difference(self, last: Tensor, yes: int, no: int) -> Tensor:
        """h . (w_yes - w_no) in fp32: rounding two large logits first would show."""
        weight = self.trunk.head.weight
        last = last.to(weight.device)
        gap = last.float() @ (weight[yes].float() - weight[no].float())
        bias = cast(Tensor | None, self.trunk.head.bias)
        return gap if bias is None else gap + (bias[yes] - bias[no]).float()
