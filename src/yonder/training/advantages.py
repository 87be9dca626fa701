"""Scores to advantages, one column a term."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yonder.core.advantages import gae, group_advantages, token_rewards
from yonder.core.kl import k1
from yonder.core.masking import whiten
from yonder.schema import Score
from yonder.training.batch import Batch
from yonder.training.rollout import StreamRollouts, StreamScores, Term


@dataclass(frozen=True, slots=True)
class Estimator:
    """How advantages are estimated; see `recipe.stages` for the meaning of each."""

    algorithm: str  # "ppo" or "grpo"
    kl_in_reward: float  # beta of the per-token penalty; 0: none
    gamma: float = 1.0
    gae_lambda: float = 0.95
    group_std: bool = True


def place_scores(batch: Batch, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term]) -> Batch:
    """Put each term's scores into its column, on the rows of its stream. Rows are stream after stream, as in
    `rollouts`."""
    values, scored = torch.zeros_like(batch.scores), torch.zeros_like(batch.scored)
    start = 0
    for stream, members in rollouts.items():
        for column, term in enumerate(terms):
            if term.stream == stream:
                found: list[Score] = scores[term.reward_name, stream]
                for i, score in enumerate(found):
                    if score.value is not None:
                        values[start + i, column] = score.value
                        scored[start + i, column] = 1.0
        start += len(members)
    return batch.with_(scores=values, scored=scored)


def estimate_advantages(batch: Batch, estimator: Estimator) -> Batch:
    """Advantages (B, T, K) and, for PPO, returns (B, T, K). Each term is normalised alone, over its own scored rows."""
    columns = [
        _ppo_column(batch, k, estimator) if estimator.algorithm == "ppo" else _grpo_column(batch, k, estimator)
        for k in range(batch.scores.shape[1])
    ]
    return batch.with_(
        advantages=torch.stack([column[0] for column in columns], -1),
        returns=torch.stack([column[1] for column in columns], -1),
    )


def _ppo_column(batch: Batch, term: int, estimator: Estimator) -> tuple[Tensor, Tensor]:
    mask = batch.completion_mask * batch.scored[:, term].unsqueeze(-1)
    kl = k1(batch.old_logprobs, batch.reference_logprobs)
    rewards = token_rewards(batch.scores[:, term], kl, mask, estimator.kl_in_reward)
    found = gae(rewards, batch.old_values[..., term], mask, estimator.gamma, estimator.gae_lambda)
    return whiten(found.advantages, mask), found.returns


def _grpo_column(batch: Batch, term: int, estimator: Estimator) -> tuple[Tensor, Tensor]:
    scored = batch.scored[:, term]
    each = group_advantages(batch.scores[:, term], batch.groups, scored, estimator.group_std)
    mask = batch.completion_mask * scored.unsqueeze(-1)
    if not estimator.kl_in_reward:
        return each.unsqueeze(-1) * mask, torch.zeros_like(mask)
    kl = k1(batch.old_logprobs, batch.reference_logprobs) * mask
    to_go = kl.flip(-1).cumsum(-1).flip(-1)
    return (each.unsqueeze(-1) - estimator.kl_in_reward * to_go) * mask, torch.zeros_like(mask)
