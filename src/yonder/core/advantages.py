"""From rewards to advantages: GAE for PPO, comparisons within a group for GRPO and RLOO; shaping of the scores."""

from typing import NamedTuple

import torch
from torch import Tensor


def last_token(mask: Tensor) -> Tensor:
    """One-hot mask of each row's last completion token; an empty row stays empty. mask: (B, T) -> (B, T)."""
    after = mask.flip(-1).cumsum(-1).flip(-1)
    return mask * (after == 1)


def token_rewards(score: Tensor, kl: Tensor, mask: Tensor, beta: float) -> Tensor:
    """-beta * KL at every token, plus the score at the action that ends the completion ([J] section 2.1, [ReFT]).

    The last completion token is the end token where the policy emitted one. score: (B,), kl, mask: (B, T) -> (B, T).
    """
    return (-beta * kl + score.unsqueeze(-1) * last_token(mask)) * mask


class Estimates(NamedTuple):
    """Advantages before whitening, and returns = advantages + values; (B, T), zero outside the mask."""

    advantages: Tensor
    returns: Tensor


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float, final: Tensor | None = None
) -> Estimates:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16; [J] section 2.1). All (B, T), rows left-aligned.

    delta_t = r_t + gamma * V_{t+1} - V_t and A_t = delta_t + gamma * lam * A_{t+1}. V after the last token is 0, or
    `final` (B,): the value of the state where a completion was cut (Pardo et al. 2018, eq. 6).
    """
    advantages = torch.zeros_like(rewards)
    following_value = torch.zeros_like(rewards[:, 0]) if final is None else final
    following_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = (delta + gamma * lam * following_advantage) * here
        following_value = values[:, t] * here if final is None else torch.where(here > 0, values[:, t], final)
        advantages[:, t] = following_advantage
    return Estimates(advantages, (advantages + values) * mask)


def group_advantages(
    scores: Tensor, groups: Tensor, scored: Tensor, divide_by_std: bool, epsilon: float = 1e-4
) -> Tensor:
    """(r - mean of group) / (std of group + epsilon) over the scored members ([J] appendix A; Shao et al. 2024,
    section 4.1.2).

    The standard deviation is the population's, as the formula reads; without it, r - mean (Liu et al. 2025). An
    unscored row, and
    the only scored row of a group, get 0: they say nothing. scores: (B,), groups: (B,) integers, scored: (B,) 0/1 ->
    (B,).
    """
    _, index = groups.unique(return_inverse=True)
    size = int(index.max().item()) + 1 if index.numel() else 0
    kept = torch.where(scored > 0, scores, torch.zeros_like(scores))
    count = torch.zeros(size, dtype=scores.dtype, device=scores.device).index_add_(0, index, scored).clamp(min=1)
    mean = torch.zeros_like(count).index_add_(0, index, kept) / count
    centred = (kept - mean[index]) * scored
    if not divide_by_std:
        return centred
    std = (torch.zeros_like(count).index_add_(0, index, centred**2) / count).sqrt()
    return centred / (std[index] + epsilon)


def leave_one_out(scores: Tensor, groups: Tensor, scored: Tensor) -> Tensor:
    """r - mean of the OTHER scored members of the group = n / (n - 1) * (r - mean of all n): RLOO (Kool et al. 2019;
    Ahmadian et al. 2024, section 3.2).

    0 for an unscored row and for the only scored row of a group. scores: (B,), groups: (B,) integers, scored: (B,) 0/1
    -> (B,).
    """
    centred = group_advantages(scores, groups, scored, divide_by_std=False)
    _, index = groups.unique(return_inverse=True)
    count = torch.zeros(index.shape[0], dtype=scores.dtype, device=scores.device).index_add_(0, index, scored)[index]
    return centred * count / (count - 1).clamp(min=1)


def overlong_penalty(lengths: Tensor, limit: int, margin: int) -> Tensor:
    """0 up to limit - margin tokens, then falling linearly to -1 at the limit: soft overlong punishment (Yu et al.
    2025, DAPO, eq. 13). lengths: (B,) -> (B,)."""
    return -((lengths - (limit - margin)) / margin).clamp(0, 1)
