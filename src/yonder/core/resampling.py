"""Figures of scores against labels with 95 % intervals: questions are resampled, since their responses are alike.

With each resample of the questions (Efron and Tibshirani 1993, ch. 8.3) every response counts as often as its question
was drawn. All figures follow from two matrices: how many right and how many wrong responses have each distinct score.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from yonder.core import calibration
from yonder.core.statistics import ROUNDING, wilson
from yonder.schema import Interval

RESAMPLES = 500
AT_ONCE = 2_000_000  # elements of one matrix of resamples and responses

Array = np.ndarray[Any, np.dtype[np.float64]]


class Tally(NamedTuple):
    """Right and wrong responses of each distinct score in each resample. B resamples, U scores."""

    values: Array  # (U,) ascending
    right: Array  # (B, U) counts
    wrong: Array  # (B, U)


class Figures(NamedTuple):
    """See `core.calibration` for each; n counts the questions behind it. None: not defined for these responses."""

    auroc: Interval | None
    auprc: Interval | None
    accuracy: Interval | None
    false_positive_rate: Interval | None
    false_negative_rate: Interval | None
    brier: Interval | None
    ece: Interval | None


def figures(
    question_ids: Sequence[str],
    scores: Sequence[float],
    labels: Sequence[bool],
    delta: float,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figures:
    """Every figure with its percentile interval; the same seed gives the same bits.

    ECE's interval is the basic one (2 * figure - percentile): resampling adds noise to the gaps of a calibrated judge,
    which ECE counts as miscalibration. A rate that no resample can change, 0 or 1, gets Wilson's interval over its
    questions instead of one without width; any other figure that none changes has no bounds (NaN).
    """
    questions = len(set(question_ids))
    found = {
        "auroc": calibration.auroc(scores, labels),
        "auprc": calibration.auprc(scores, labels),
        "accuracy": calibration.accuracy_at(scores, labels, delta),
        "false_positive_rate": calibration.false_positive_rate(scores, labels, delta),
        "false_negative_rate": calibration.false_negative_rate(scores, labels, delta),
        "brier": calibration.brier(scores, labels),
        "ece": calibration.ece(scores, labels),
    }
    behind = {
        "false_positive_rate": len({q for q, label in zip(question_ids, labels, strict=True) if not label}),
        "false_negative_rate": len({q for q, label in zip(question_ids, labels, strict=True) if label}),
    }
    drawn = resampled(question_ids, scores, labels, delta, seed, resamples)
    return Figures(
        **{
            name: None if value is None else _interval(name, value, drawn[name], behind.get(name, questions))
            for name, value in found.items()
        }
    )


def resampled(
    question_ids: Sequence[str],
    scores: Sequence[float],
    labels: Sequence[bool],
    delta: float,
    seed: int,
    resamples: int,
) -> dict[str, Array]:
    """Figure -> its values in every resample, NaN where it is not defined."""
    empty = {name: np.zeros(0) for name in Figures._fields}
    if not scores:
        return empty
    questions, owner = np.unique(np.asarray(question_ids), return_inverse=True)
    generator = np.random.default_rng(seed)
    size = max(1, AT_ONCE // len(scores))
    parts: list[dict[str, Array]] = []
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        counts = generator.multinomial(len(questions), np.full(len(questions), 1 / len(questions)), size=rows)
        parts.append(of_tally(tally(counts[:, owner].astype(np.float64), scores, labels), delta))
    return {name: np.concatenate([part[name] for part in parts]) for name in empty}


def tally(weights: Array, scores: Sequence[float], labels: Sequence[bool]) -> Tally:
    """Add up the weights (B, N) of right and of wrong responses with each distinct score."""
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    right = np.asarray(labels, dtype=np.float64)[order]
    ordered = weights[:, order]
    return Tally(
        distinct,
        np.add.reduceat(ordered * right, starts, axis=1),
        np.add.reduceat(ordered * (1 - right), starts, axis=1),
    )


def of_tally(counts: Tally, delta: float) -> dict[str, Array]:
    """Figure -> (B,), as `core.calibration` defines each; NaN where it is not defined."""
    values, right, wrong = counts
    accepted = values >= delta
    rights, wrongs = right.sum(1), wrong.sum(1)
    total = rights + wrongs
    lower = np.cumsum(wrong, axis=1) - wrong  # wrong ones that score below
    above_right, above = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (right, right + wrong))  # or equal
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(above > 0, above_right / above, 0.0)
        return {
            "auroc": (right * (lower + wrong / 2)).sum(1) / (rights * wrongs),
            "auprc": np.where(wrongs > 0, (right * precision).sum(1) / rights, np.nan),
            "accuracy": (right[:, accepted].sum(1) + wrong[:, ~accepted].sum(1)) / total,
            "false_positive_rate": wrong[:, accepted].sum(1) / wrongs,
            "false_negative_rate": right[:, ~accepted].sum(1) / rights,
            "brier": (right @ (1 - values) ** 2 + wrong @ values**2) / total,
            "ece": _ece(counts) / total,
        }


def _ece(counts: Tally, bins: int = calibration.BINS) -> Array:
    """Sum over bins of |right - sum of scores|, (B,): `calibration.ece` times the number of responses."""
    values, right, wrong = counts
    both = right + wrong
    rows = both.shape[0]
    rank = np.cumsum(both, axis=1) - both
    index = np.minimum(rank * bins // both.sum(1, keepdims=True), bins - 1).astype(np.int64)  # pads at the end: last
    flat = (index + bins * np.arange(rows)[:, None]).ravel()
    gaps = np.bincount(flat, weights=(right - both * values).ravel(), minlength=rows * bins)
    return np.abs(gaps).reshape(rows, bins).sum(1)


def _interval(name: str, value: float, drawn: Array, questions: int) -> Interval | None:
    low, high = percentiles(drawn)
    if name == "ece":
        low, high = max(0.0, 2 * value - high), min(1.0, 2 * value - low)
    rate = name in ("accuracy", "false_positive_rate", "false_negative_rate")
    if rate and low == high and value in (0.0, 1.0):
        return replace(wilson(value * questions, questions), value=value)
    if high - low < ROUNDING:
        return Interval(value, math.nan, math.nan, questions)
    return Interval(value, min(low, value), max(high, value), questions)


def percentiles(drawn: Array) -> tuple[float, float]:
    """2.5 and 97.5 per cent of the resamples in which a figure is defined."""
    defined = drawn[np.isfinite(drawn)]
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
