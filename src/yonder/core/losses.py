"""The clipped losses of PPO and the GRPO family, and SFT's.

Each returns one number a sequence, the mean over its own tokens; `core.terms` takes the mean over sequences
([ReFT]'s mean of means).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from yonder.core.masking import masked_mean, sequence_mean


class PolicyLoss(NamedTuple):
    """The surrogate of each sequence (B,), and per token whether the clip was active (B, T)."""

    per_sequence: Tensor
    clipped: Tensor


def clipped_policy_loss(
    policy_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> PolicyLoss:
    """max(-A * ratio, -A * clamp(ratio, 1 - clip, 1 + clip)), ratio = exp(policy - old) (Schulman et al. 2017, eq.
    7). All (B, T)."""
    ratio = (policy_logprobs - old_logprobs).exp()
    plain = -advantages * ratio
    limited = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return PolicyLoss(sequence_mean(torch.maximum(plain, limited), mask), (limited > plain).float() * mask)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """0.5 * max((V - R)^2, (clamp(V, V_old - clip, V_old + clip) - R)^2), mean over each row's tokens ([ReFT]). (B,
    T) -> (B,)."""
    limited = torch.maximum(torch.minimum(values, old_values + clip), old_values - clip)
    worst = torch.maximum((values - returns) ** 2, (limited - returns) ** 2)
    return 0.5 * sequence_mean(worst, mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(R - V) / Var(R) over all masked tokens: 1 is a perfect value head, 0 no better than a constant. (B, T)
    -> scalar."""
    error = returns - values
    residual = masked_mean((error - masked_mean(error, mask)) ** 2, mask)
    total = masked_mean((returns - masked_mean(returns, mask)) ** 2, mask)
    return 1 - residual / total.clamp(min=1e-8)
