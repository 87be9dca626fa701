"""AlpacaEval's win rates: plain, and controlled for length (Dubois et al. 2024, arXiv:2404.04475)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

Floats = NDArray[np.float64]
STRENGTHS = np.logspace(-4, 4, 10)  # inverse regularisation that cross-validation chooses from
FOLDS = 5
SEED = 123  # of the solver; all of these as in the alpaca_eval package 0.6.6
GAMED_WEIGHT = 0.2  # of the gamed baselines' rows, both together


@dataclass(frozen=True, slots=True)
class Gamed:
    """Judgements of the baseline's own concise and verbose versions (`df_gamed.csv`), one row each."""

    preference: Floats  # P(the version is better than the baseline)
    index: NDArray[np.int64]  # of the instruction
    std_delta_len: Floats
    difficulty: Floats  # of the instruction


@dataclass(frozen=True, slots=True)
class WinRate:
    """Percentages. `*_error`: the standard error of the mean."""

    win_rate: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    n: int  # judged; the others are left out of the win rate and of the fit
    length_controlled: float
    length_controlled_error: float
    model: str  # `length_controlled_v1` (AlpacaEval 2's), or `length_controlled_minimal` without the gamed rows


def win_rate(preferences: Sequence[float | None], lengths: Sequence[tuple[int, int]], gamed: Gamed | None) -> WinRate:
    """Win rates of a model from P(its output is better than the baseline's); None: not judged.

    `lengths`: characters of (the baseline's output, the model's), in the benchmark's order: row i is instruction i. The
    length-controlled win rate is the mean of a logistic regression's predictions with the length difference set to 0,
    on all instructions, as `get_length_controlled_winrate` of the package. ValueError with fewer than 5 judgements.
    """
    p = np.array([math.nan if value is None else value for value in preferences], dtype=np.float64)
    judged = p[~np.isnan(p)]
    if len(judged) < FOLDS:
        raise ValueError(f"{len(judged)} judgements; at least {FOLDS} are needed")
    predicted = _predicted(p, np.array(lengths, dtype=np.float64), gamed)
    return WinRate(
        win_rate=100 * float(judged.mean()),
        standard_error=100 * _standard_error(judged),
        wins=int((judged > 0.5).sum()),
        losses=int((judged < 0.5).sum()),
        draws=int((judged == 0.5).sum()),
        n=len(judged),
        length_controlled=100 * float(predicted.mean()),
        length_controlled_error=100 * _standard_error(predicted),
        model="length_controlled_v1" if gamed is not None else "length_controlled_minimal",
    )


def _predicted(p: Floats, lengths: Floats, gamed: Gamed | None) -> Floats:
    """P(better) of every instruction at equal lengths: sigmoid(difficulty's coefficient * difficulty + constant).

    Features: tanh of the standardised length difference (baseline - model), the instruction's difficulty, and 1 for our
    rows, 0 for the gamed baselines', which weigh `GAMED_WEIGHT` / 2 each.
    """
    difference = lengths[:, 0] - lengths[:, 1]
    spread = difference.std(ddof=1)
    features = np.stack([np.tanh(difference / spread) if spread else np.zeros(len(p)), np.ones(len(p))], axis=1)
    weights = np.ones(len(p))
    if gamed is not None:
        difficulty = _difficulty(gamed, len(p))
        theirs = np.stack([np.tanh(gamed.std_delta_len), gamed.difficulty, np.zeros(len(gamed.index))], axis=1)
        features = np.concatenate([theirs, np.insert(features, 1, difficulty, axis=1)])
        weights = np.concatenate([np.full(len(theirs), GAMED_WEIGHT / 2), weights])
        p = np.concatenate([gamed.preference, p])
    known = ~np.isnan(p)
    ours = features[features[:, -1] == 1].copy()
    ours[:, 0] = 0.0
    model = _fit(features[known], p[known], weights[known])
    return model.predict_proba(ours)[:, 1]


def _difficulty(gamed: Gamed, count: int) -> Floats:
    """Of instructions 0 to `count` - 1; ValueError where one is not known."""
    known: dict[int, float] = {}
    for i, value in zip(gamed.index.tolist(), gamed.difficulty.tolist(), strict=True):
        known.setdefault(i, value)
    missing = next((i for i in range(count) if i not in known), None)
    if missing is not None:
        raise ValueError(f"the difficulty of instruction {missing} is not known")
    return np.array([known[i] for i in range(count)])


def _fit(features: Floats, p: Floats, weights: Floats) -> LogisticRegression:
    """L1 logistic regression on probabilities: every row once as a win with weight p, once as a loss with 1 - p; the
    strength with the best held-out log-likelihood over 5 folds of rows."""
    doubled = np.concatenate([features, features])
    labels = np.repeat([1, 0], len(p))
    shares = np.concatenate([p, 1 - p])
    scales = np.concatenate([weights, weights])
    rows = np.tile(np.arange(len(p)), 2)
    scores = np.zeros(len(STRENGTHS))
    for train, test in GroupKFold(FOLDS).split(doubled, labels, rows):
        for i, strength in enumerate(STRENGTHS):
            model = _regression(float(strength))
            model.fit(doubled[train], labels[train], sample_weight=(shares * scales)[train])
            found = np.clip(model.predict_proba(doubled[test])[:, 1], 1e-15, 1 - 1e-15)
            truth = np.where(labels[test] == 1, shares[test], 1 - shares[test])
            scores[i] += np.mean((truth * np.log(found) + (1 - truth) * np.log(1 - found)) * scales[test])
    chosen = _regression(float(STRENGTHS[int(np.argmax(scores))]))
    return chosen.fit(doubled, labels, sample_weight=shares * scales)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=SEED)


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
