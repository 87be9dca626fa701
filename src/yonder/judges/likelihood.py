"""[J]'s baseline LL: how likely the judge's own model finds a response, mean log-likelihood of its tokens."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from yonder.core.logprobs import token_statistics
from yonder.judges.local import LocalJudge
from yonder.models.padding import right_pad, token_batches

LOGITS_AT_ONCE = 32 * 1024 * 1024  # elements of one chunk of logits


class Written(NamedTuple):
    """A response in its parts; what was given is the same for all responses to a question, so it is not counted."""

    question: str
    given: str
    text: str  # what was written after it


def mean_loglikelihoods(judge: LocalJudge, written: Sequence[Written]) -> list[float | None]:
    """Nats a token of each text after its question and what was given, in order; at most `max_tokens` are read.

    None where nothing was written, the question leaves no room, or the model's numbers are not finite.
    """
    contexts = [judge.prompt.before_answer(row.question) + judge.prompt.plain(row.given) for row in written]
    sequences = [
        (context + judge.prompt.plain(row.text))[: judge.max_tokens]
        for context, row in zip(contexts, written, strict=True)
    ]
    out: list[float | None] = [None] * len(written)
    usable = [i for i, ids in enumerate(sequences) if len(ids) > len(contexts[i]) > 0]
    for batch in token_batches([len(sequences[i]) for i in usable], judge.batch_tokens):
        rows = [usable[i] for i in batch]
        means = _means(judge, [sequences[i] for i in rows], [len(contexts[i]) for i in rows])
        for i, mean in zip(rows, means.tolist(), strict=True):
            out[i] = mean if math.isfinite(mean) else None
    return out


@torch.no_grad()
def _means(judge: LocalJudge, sequences: list[list[int]], starts: list[int]) -> Tensor:
    """Mean log-probability of the tokens from `starts` on, (B,) float32."""
    tokens, mask = right_pad(sequences, judge.device)
    hidden = judge.trunk.hidden(tokens, None)[:, :-1]  # causal: no real position sees the pads behind it
    places = torch.arange(1, tokens.shape[1], device=judge.device)
    counted = (places >= torch.tensor(starts, device=judge.device).unsqueeze(-1)) & mask[:, 1:].bool()  # (B, S - 1)
    states, targets = hidden[counted], tokens[:, 1:][counted]
    size = max(1, LOGITS_AT_ONCE // judge.trunk.head.out_features)
    parts = [
        token_statistics(judge.trunk.head(part), ids).logprobs
        for part, ids in zip(states.split(size), targets.split(size), strict=True)
    ]
    spread = torch.zeros(counted.shape, device=judge.device).masked_scatter(counted, torch.cat(parts))
    return spread.sum(-1) / counted.sum(-1)
