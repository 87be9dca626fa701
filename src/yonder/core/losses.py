"""The surrogates of PPO and the GRPO family, and the value head's loss.

A surrogate is a loss for every token; `core.masking.per_sequence` and `core.terms` reduce it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from yonder.core.masking import masked_mean, sequence_mean


class Clip(NamedTuple):
    """The ratio is held within 1 - low and 1 + high; `dual` bounds it where the advantage is negative."""

    low: float
    high: float  # above `low`: clip-higher (Yu et al. 2025, DAPO, eq. 8)
    dual: float | None = None


class Surrogate(NamedTuple):
    """The loss of each token, and whether its clip was active; (B, T)."""

    per_token: Tensor
    clipped: Tensor


def clipped_policy_loss(
    policy_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: Clip
) -> Surrogate:
    """max(-A * ratio, -A * clamp(ratio, 1 - low, 1 + high)), ratio = exp(policy - old) (Schulman et al. 2017, eq. 7).

    With `dual` c, where A < 0: at most -A * c (Ye et al. 2020, dual-clip PPO, eq. 5). All (B, T).
    """
    return _clipped((policy_logprobs - old_logprobs).exp(), advantages, mask, clip)


def sequence_policy_loss(
    policy_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: Clip
) -> Surrogate:
    """The same with one ratio a sequence, s = exp(mean over its tokens of policy - old) (Zheng et al. 2025, GSPO, eq. 5
    to 7).

    In the form of eq. 14, s * p / stop_gradient(p): equal in value and gradient where a row's advantages are equal, and
    right where they differ. All (B, T).
    """
    mean = sequence_mean(policy_logprobs - old_logprobs, mask).detach().unsqueeze(-1)
    ratio = (mean + policy_logprobs - policy_logprobs.detach()).exp()
    return _clipped(ratio, advantages, mask, clip)


def cispo_loss(
    policy_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: Clip
) -> Surrogate:
    """-stop_gradient(clamp(ratio, 1 - low, 1 + high)) * A * policy: the weight is cut, no token loses its gradient
    (MiniMax 2025, CISPO, eq. 4 and 5). All (B, T)."""
    ratio = (policy_logprobs - old_logprobs).detach().exp()
    limited = ratio.clamp(1 - clip.low, 1 + clip.high)
    return Surrogate(-limited * advantages * policy_logprobs, (limited != ratio).float() * mask)


def importance_weights(old_logprobs: Tensor, rollout_logprobs: Tensor, cap: float) -> Tensor:
    """min(exp(old - rollout), cap): what the sampler's numbers differ by from the trainer's, truncated (Yao et al.
    2025, truncated importance sampling). (B, T)."""
    return (old_logprobs - rollout_logprobs).exp().clamp(max=cap)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """0.5 * max((V - R)^2, (clamp(V, V_old - clip, V_old + clip) - R)^2) of each token ([ReFT]). All (B, T)."""
    limited = torch.maximum(torch.minimum(values, old_values + clip), old_values - clip)
    worst = torch.maximum((values - returns) ** 2, (limited - returns) ** 2)
    return 0.5 * worst


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(R - V) / Var(R) over all masked tokens: 1 is a perfect value head, 0 no better than a constant. (B, T)
    -> scalar."""
    error = returns - values
    residual = masked_mean((error - masked_mean(error, mask)) ** 2, mask)
    total = masked_mean((returns - masked_mean(returns, mask)) ** 2, mask)
    return 1 - residual / total.clamp(min=1e-8)


def _clipped(ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Surrogate:
    plain = -advantages * ratio
    limited = -advantages * ratio.clamp(1 - clip.low, 1 + clip.high)
    per_token, clipped = torch.maximum(plain, limited), limited > plain
    if clip.dual is not None:
        bound = -advantages * clip.dual
        cut = (advantages < 0) & (per_token > bound)
        per_token, clipped = torch.where(cut, bound, per_token), clipped | cut
    return Surrogate(per_token, clipped.float() * mask)
