"""Scores to advantages, one column a term."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yonder.core.advantages import gae, group_advantages, leave_one_out, overlong_penalty, token_rewards
from yonder.core.kl import k1
from yonder.core.masking import whiten
from yonder.schema import Score
from yonder.training.batch import Batch
from yonder.training.rollout import StreamRollouts, StreamScores, Term


@dataclass(frozen=True, slots=True)
class Estimator:
    """How advantages are estimated; see `recipe.algorithms` for the meaning of each."""

    baseline: str  # what a score is compared with: "value", "group", "leave-one-out" or "none"
    kl_in_reward: float  # beta of the per-token penalty; 0: none
    normalise: str  # "none", "group" (with the baseline "group") or "batch"
    gamma: float = 1.0
    gae_lambda: float = 0.95
    truncated: str = "as-ended"  # or "bootstrap" (with the baseline "value") or "mask"
    overlong: tuple[int, int, float] | None = None  # limit, margin (tokens) and weight of the penalty


def place_scores(batch: Batch, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term]) -> Batch:
    """Put each term's scores into its column, on the rows of its stream; a teacher's term has all of them. Rows are
    stream after stream, as in `rollouts`."""
    values, scored = torch.zeros_like(batch.scores), torch.zeros_like(batch.scored)
    start = 0
    for stream, members in rollouts.items():
        for column, term in enumerate(terms):
            if term.stream == stream and term.teacher is not None:
                scored[start : start + len(members), column] = 1.0
            elif term.stream == stream:
                found: list[Score] = scores[term.reward_name, stream]
                for i, score in enumerate(found):
                    if score.value is not None:
                        values[start + i, column] = score.value
                        scored[start + i, column] = 1.0
        start += len(members)
    return batch.with_(scores=values, scored=scored)


def estimate_advantages(batch: Batch, estimator: Estimator) -> Batch:
    """Advantages (B, T, K) and, for PPO, returns (B, T, K). Each term is normalised alone, over its own scored rows.

    Scores are shaped before; with `truncated: mask` rows that were cut become unscored.
    """
    batch = _shaped(batch, estimator)
    column = _value_column if estimator.baseline == "value" else _sequence_column
    columns = [column(batch, k, estimator) for k in range(batch.scores.shape[1])]
    return batch.with_(
        advantages=torch.stack([found[0] for found in columns], -1),
        returns=torch.stack([found[1] for found in columns], -1),
    )


def _shaped(batch: Batch, estimator: Estimator) -> Batch:
    if estimator.overlong is not None:
        limit, margin, weight = estimator.overlong
        penalty = weight * overlong_penalty(batch.completion_mask.sum(-1), limit, margin)
        batch = batch.with_(scores=batch.scores + penalty.unsqueeze(-1) * batch.scored)
    if estimator.truncated == "mask":
        batch = batch.with_(scored=batch.scored * (1 - batch.truncated).unsqueeze(-1))
    return batch


def _value_column(batch: Batch, term: int, estimator: Estimator) -> tuple[Tensor, Tensor]:
    mask = batch.completion_mask * batch.scored[:, term].unsqueeze(-1)
    kl = k1(batch.old_logprobs, batch.reference_logprobs)
    scores, final = batch.scores[:, term], None
    if estimator.truncated == "bootstrap":  # the value stands for the score that the rest would have brought
        scores, final = scores * (1 - batch.truncated), batch.final_values[:, term] * batch.truncated
    rewards = token_rewards(scores, kl, mask, estimator.kl_in_reward)
    found = gae(rewards, batch.old_values[..., term], mask, estimator.gamma, estimator.gae_lambda, final)
    return whiten(found.advantages, mask) if estimator.normalise == "batch" else found.advantages, found.returns


def _sequence_column(batch: Batch, term: int, estimator: Estimator) -> tuple[Tensor, Tensor]:
    """One number a completion, less the KL that is still to come; with leave-one-out the whole completion is one action
    and its KL a part of the score (Ahmadian et al. 2024)."""
    scored, scores, beta = batch.scored[:, term], batch.scores[:, term], estimator.kl_in_reward
    mask = batch.completion_mask * scored.unsqueeze(-1)
    kl = k1(batch.old_logprobs, batch.reference_logprobs) * mask
    if estimator.baseline == "leave-one-out":
        each = leave_one_out(scores - beta * kl.sum(-1), batch.groups, scored)
    elif estimator.baseline == "group":
        each = group_advantages(scores, batch.groups, scored, estimator.normalise == "group")
    else:
        each = scores
    tokens = each.unsqueeze(-1)
    if beta and estimator.baseline != "leave-one-out":
        tokens = tokens - beta * kl.flip(-1).cumsum(-1).flip(-1)
    tokens = tokens * mask
    return whiten(tokens, mask) if estimator.normalise == "batch" else tokens, torch.zeros_like(mask)
