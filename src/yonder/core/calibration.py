"""How well scores from 0 to 1 tell right responses from wrong ones.

A score is accepted when it is >= delta, as in eq. 2 of [J]. Every function returns None where its figure is not defined
(no responses, or only right or only wrong ones where it needs both); None never means zero.
"""

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from yonder.core.statistics import ROUNDING, Z
from yonder.schema import Interval

BINS = 15
_TAU_RANGE = (1e-2, 1e2)  # outside, the fit has no optimum worth the name

Pair = tuple[float, float]  # (score of a right response, score of a wrong one)


class ReliabilityBin(NamedTuple):
    """Responses of similar score: a calibrated judge has `share_right` close to `mean_score`."""

    low: float  # smallest score in the bin
    high: float  # largest
    mean_score: float
    share_right: float
    n: int


def _array(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(values, dtype=np.float64)


def _both(labels: Sequence[bool]) -> bool:
    return any(labels) and not all(labels)


def accuracy_at(scores: Sequence[float], labels: Sequence[bool], delta: float) -> float | None:
    """Share of responses on which (score >= delta) agrees with the label; None without responses."""
    if not labels:
        return None
    return sum((score >= delta) == label for score, label in zip(scores, labels, strict=True)) / len(labels)


def false_positive_rate(scores: Sequence[float], labels: Sequence[bool], delta: float) -> float | None:
    """Share of wrong responses that are accepted; None without a wrong one."""
    accepted = [score >= delta for score, label in zip(scores, labels, strict=True) if not label]
    return sum(accepted) / len(accepted) if accepted else None


def false_negative_rate(scores: Sequence[float], labels: Sequence[bool], delta: float) -> float | None:
    """Share of right responses that are refused; None without a right one."""
    refused = [score < delta for score, label in zip(scores, labels, strict=True) if label]
    return sum(refused) / len(refused) if refused else None


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Chance that a random right response scores above a random wrong one, ties 1/2 (Hanley and McNeil 1982).

    None for one class.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if _both(labels) else None


def auroc_interval(auroc: float, right: int, wrong: int) -> Interval:
    """95 % interval of an AUROC over this many right and wrong responses (Hanley and McNeil 1982, eq. 2), cut to
    [0, 1].

    n is their sum. Responses count as independent; several of one question make it too narrow. Of 0 and of 1 the
    formula has no width: no bounds (NaN). ValueError without a right or a wrong one.
    """
    if right < 1 or wrong < 1:
        raise ValueError(f"AUROC of {right} right and {wrong} wrong responses")
    both_right, both_wrong = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (right - 1) * (both_right - auroc**2) + (wrong - 1) * (both_wrong - auroc**2)
    half = Z * math.sqrt(max(0.0, spread) / (right * wrong))
    if half < ROUNDING:
        return Interval(auroc, math.nan, math.nan, right + wrong)
    return Interval(auroc, max(0.0, auroc - half), min(1.0, auroc + half), right + wrong)


def auprc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Average precision, right being the positive class (scikit-learn's step-wise sum); chance is the share right.

    None for one class.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if _both(labels) else None


def brier(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Mean squared difference between score and label, 0 best (Brier 1950); None without responses."""
    return float(np.mean((_array(scores) - _array(labels)) ** 2)) if labels else None


def reliability_bins(scores: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> list[ReliabilityBin]:
    """At most `bins` bins of equal mass, by rising score (Nguyen and O'Connor 2015, section 3).

    Equal scores always share a bin, so the result does not depend on the order of the responses; a pile of ties makes
    its bin larger than the others, and empty bins are left out.
    """
    values, right = _array(scores), _array(labels)
    rank = np.searchsorted(np.sort(values), values, side="left")  # the same for equal scores
    index = rank * bins // max(len(values), 1)
    rows: list[ReliabilityBin] = []
    for i in np.unique(index):
        inside = values[index == i]
        row = (inside.min(), inside.max(), inside.mean(), right[index == i].mean())
        rows.append(ReliabilityBin(*(float(x) for x in row), n=len(inside)))
    return rows


def ece(scores: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> float | None:
    """Expected calibration error: mean |share right - mean score| over bins, by their size (Guo et al. 2017, eq. 3).

    Equal-mass bins, see `reliability_bins`. None without responses.
    """
    rows = reliability_bins(scores, labels, bins)
    return sum(row.n * abs(row.share_right - row.mean_score) for row in rows) / len(labels) if rows else None


def draw_within_question(question_ids: Sequence[str], labels: Sequence[bool], seed: int) -> list[tuple[int, int]]:
    """Indices of a random right and a random wrong response of every question that has both, in order of appearance
    ([J] C.1)."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for i, (question, label) in enumerate(zip(question_ids, labels, strict=True)):
        groups.setdefault(question, ([], []))[0 if label else 1].append(i)
    generator = random.Random(seed)
    return [(generator.choice(right), generator.choice(wrong)) for right, wrong in groups.values() if right and wrong]


def pair_within_question(
    question_ids: Sequence[str], scores: Sequence[float], labels: Sequence[bool], seed: int
) -> list[Pair]:
    """The scores of the responses that `draw_within_question` draws."""
    return [(scores[right], scores[wrong]) for right, wrong in draw_within_question(question_ids, labels, seed)]


def pairwise_wins(pairs: Sequence[Pair]) -> float:
    """Number of pairs whose right response scores higher; a tie counts 1/2."""
    return sum(1.0 if right > wrong else 0.5 if right == wrong else 0.0 for right, wrong in pairs)


def pairwise_accuracy(pairs: Sequence[Pair]) -> float | None:
    """Share of pairs whose right response scores higher, ties 1/2 ([J] C.1); None without pairs."""
    return pairwise_wins(pairs) / len(pairs) if pairs else None


def fit_temperature(logit_gaps: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The tau that minimises the negative log-likelihood of sigmoid(gap / tau) (Guo et al. 2017, section 4.2).

    None for one class, when the gaps separate the labels perfectly (tau would go to 0) and when they say nothing or
    the opposite (tau would go to infinity).
    """
    from scipy.optimize import minimize_scalar

    if not _both(labels):
        return None
    signed = np.where(np.asarray(labels, dtype=bool), 1.0, -1.0) * _array(logit_gaps)

    def loss(log_tau: float) -> float:
        return float(np.logaddexp(0.0, -signed / np.exp(log_tau)).mean())

    low, high = (float(np.log(bound)) for bound in _TAU_RANGE)
    fit = cast(Any, minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}))
    best = float(fit.x)
    return float(np.exp(best)) if low + 1e-2 < best < high - 1e-2 else None


def suggest_delta(scores: Sequence[float], labels: Sequence[bool], max_false_positive_rate: float) -> float | None:
    """The observed score that tells right from wrong best as delta (accepted share of right less that of wrong ones;
    the smallest of equals), of those that accept at most this share of the wrong responses.

    None without a wrong response (the rate cannot be measured), and when even the highest score accepts too many. The
    rate holds for these responses; on new ones it will be a little higher.
    """
    deltas = np.unique(_array(scores))

    def accepted(kind: bool) -> Any:
        of_kind = np.sort(_array([score for score, label in zip(scores, labels, strict=True) if label is kind]))
        return 1 - np.searchsorted(of_kind, deltas, side="left") / max(1, len(of_kind))

    usable = accepted(False) <= max_false_positive_rate + 1e-12
    if all(labels) or not usable.any():
        return None
    gain = np.where(usable, accepted(True) - accepted(False), -np.inf)
    return float(deltas[int(np.argmax(gain >= gain.max() - 1e-12))])
