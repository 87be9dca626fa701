"""Tau and delta fitted on one half of the questions; what they give is measured on the other half alone."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from yonder.core import calibration
from yonder.core.judging import judge_value
from yonder.evaluation.judge_check.rows import DRAW_SEED, Judged, figures_of, questions_of
from yonder.schema import Interval


@dataclass(frozen=True, slots=True)
class Fitted:
    """Suggested settings and their figures. None: not defined for these responses."""

    tau: float | None  # fits the labels best; None: the recipe's scale is kept
    delta: float | None  # on the scale of tau; the best that accepts at most `aimed_at` of the wrong responses
    aimed_at: float  # false-positive rate
    fitted_on: int  # questions
    measured_on: int  # other questions: all figures below are of these
    accuracy: Interval | None  # at delta
    false_positive_rate: Interval | None
    false_negative_rate: Interval | None
    ece: Interval | None  # at tau
    ece_unfitted: Interval | None  # at the recipe's tau


def fit_half(rows: Sequence[Judged], max_false_positive_rate: float) -> Fitted:
    """Fit on the development half of the questions, measure on the other."""
    development = development_half(questions_of(rows))
    ours = [row for row in rows if row.response.prompt_id in development]
    others = [row for row in rows if row.response.prompt_id not in development]
    tau, delta = fit(ours, max_false_positive_rate)
    at_recipes, at_fitted = (
        figures_of(others, 0.5 if delta is None else delta, [tempered(row, scale) for row in others])
        for scale in (None, tau)
    )
    return Fitted(
        tau=tau,
        delta=delta,
        aimed_at=max_false_positive_rate,
        fitted_on=len(development),
        measured_on=len(set(questions_of(others))),
        accuracy=None if delta is None else at_fitted.accuracy,
        false_positive_rate=None if delta is None else at_fitted.false_positive_rate,
        false_negative_rate=None if delta is None else at_fitted.false_negative_rate,
        ece=at_fitted.ece,
        ece_unfitted=at_recipes.ece,
    )


def development_half(questions: Collection[str]) -> set[str]:
    """Half of the questions (of an odd number the smaller half), by a fixed seed and their names: the same for every
    judge and in every order."""
    named = sorted(set(questions), key=lambda name: hashlib.sha256(f"{DRAW_SEED}/{name}".encode()).digest())
    return set(named[: len(named) // 2])


def fit(rows: Sequence[Judged], max_false_positive_rate: float) -> tuple[float | None, float | None]:
    """Tau from the responses that the judge was asked about, then delta on that scale, guards' zeros included."""
    asked = [(row.logit_gap, row.right) for row in rows if row.logit_gap is not None]
    tau = calibration.fit_temperature([gap for gap, _ in asked], [right for _, right in asked])
    values = [tempered(row, tau) for row in rows]
    return tau, calibration.suggest_delta(values, [row.right for row in rows], max_false_positive_rate)


def tempered(row: Judged, tau: float | None) -> float:
    """The probability at another tau; None: as it is."""
    if tau is None or row.logit_gap is None:
        return row.probability
    return judge_value(row.logit_gap, tau, delta=0.0)
