"""Reward models from comparisons: which of two responses is better, and the loss of a pair."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def bradley_terry_loss(better: Tensor, worse: Tensor) -> Tensor:
    """-log sigmoid(s_better - s_worse) of each pair, (B,) (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1)."""
    return -torch.nn.functional.logsigmoid(better - worse)


def centring_penalty(better: Tensor, worse: Tensor) -> Tensor:
    """(s_better + s_worse)^2 of each pair, (B,) (Eisenstein et al. 2023, section 2): a difference says nothing of the
    level, and a score far from 0 is 0 or 1 after a sigmoid, whatever the other one is."""
    return (better + worse) ** 2


def ranked_pairs(
    grades: Sequence[float | None], correct: Sequence[bool | None], margin: float
) -> list[tuple[int, int]]:
    """(better, worse) among the responses to one question, every pair.

    Where both are graded the greater grade is better, by at least `margin`; else a right one is better than a wrong
    one. Equal ones, and those without a label, are no pair.
    """
    found: list[tuple[int, int]] = []
    for i in range(len(grades)):
        for j in range(len(grades)):
            a, b = grades[i], grades[j]
            if a is not None and b is not None:
                above = a > b and a - b >= margin - 1e-12
            else:
                above = correct[i] is True and correct[j] is False
            if above:
                found.append((i, j))
    return found


def pair_figures(gaps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Share of (better, worse) scores in the right order, ties 1/2, and the mean log-likelihood; of at least one
    pair."""
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in gaps]
    return sum(won) / len(won), sum(-_softplus(b - a) for a, b in gaps) / len(gaps)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
