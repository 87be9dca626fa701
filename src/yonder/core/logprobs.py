"""Log-probabilities and entropies of sampled tokens."""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenStatistics(NamedTuple):
    """Of every token: log-probability and entropy of the distribution it came from, nats, float32."""

    logprobs: Tensor
    entropy: Tensor


def token_statistics(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> TokenStatistics:
    """log p(id) and entropy at the sampling temperature: p = softmax(logits / temperature). logits: (N, V), ids:
    (N,) -> (N,)."""
    logp = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = logp.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return TokenStatistics(chosen, -(logp.exp() * logp).sum(-1))


def keep_top(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set logits outside the `top_k` most probable tokens and outside the nucleus of mass `top_p` to -inf. (N, V) ->
    (N, V).

    The token that crosses the nucleus bound is kept, so one token is always left. 0 and 1.0 switch them off.
    """
    if top_k > 0:
        bound = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < bound, float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        ordered = ordered.masked_fill(mass_before >= top_p, float("-inf"))
        logits = torch.empty_like(logits).scatter(-1, order, ordered)
    return logits
