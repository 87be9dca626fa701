"""The mean of the same questions answered under several seeds, and of paired differences: what is known of it.

Seeds and questions are both drawn from more of their kind, and cross: each question is answered under each seed. The
interval is that of the two-way random-effects model without replication (Scheffe 1959, ch. 7; Brennan 2001, ch. 5),
with Satterthwaite's (1946) degrees of freedom. It says what other seeds and other questions of the kind would give.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from yonder.core.statistics import wilson

Array = np.ndarray[Any, np.dtype[np.float64]]


class Estimate(NamedTuple):
    """A mean with its 95 % interval and the two-sided p-value that it is 0."""

    value: float
    low: float
    high: float
    p: float | None  # None where nothing varies


def crossed_mean(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean of x[s][q], S >= 2 seeds by Q >= 2 questions.

    With mean squares of seeds, questions and what is left of them (MS_s, MS_q, MS_e): Var(mean) = (MS_s + MS_q - MS_e)
    / (S Q), where a mean square below MS_e counts as MS_e (a variance is not negative). ValueError for smaller tables.
    """
    table = np.asarray(values, dtype=np.float64)
    seeds, questions = table.shape
    if seeds < 2 or questions < 2:
        raise ValueError(f"{seeds} seeds by {questions} questions; both must be at least 2")
    mean = float(table.mean())
    by_seed, by_question = table.mean(axis=1), table.mean(axis=0)
    left = table - by_seed[:, None] - by_question[None, :] + mean
    free = (seeds - 1, questions - 1, (seeds - 1) * (questions - 1))
    of_seeds = questions * float(((by_seed - mean) ** 2).sum()) / free[0]
    of_questions = seeds * float(((by_question - mean) ** 2).sum()) / free[1]
    of_rest = float((left**2).sum()) / free[2]
    counted = (of_seeds > of_rest, of_questions > of_rest)
    parts = [
        (of_seeds if counted[0] else 0.0, free[0]),
        (of_questions if counted[1] else 0.0, free[1]),
        ((1 - sum(counted)) * of_rest, free[2]),
    ]
    total = math.fsum(part for part, _ in parts)
    return _t_interval(mean, total / (seeds * questions), sum(part**2 / df for part, df in parts), total)


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's interval: seeds whose questions differ.

    ValueError for fewer than two.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        raise ValueError(f"{len(data)} values; at least 2 are needed")
    variance = float(data.var(ddof=1))
    return _t_interval(float(data.mean()), variance / len(data), variance**2 / (len(data) - 1), variance)


def _t_interval(mean: float, variance: float, below: float, total: float) -> Estimate:
    """Satterthwaite: total^2 / below degrees of freedom, `below` being the sum of part^2 / its own."""
    from scipy.special import stdtr, stdtrit  # a dependency of scikit-learn; slow to import

    if variance <= 1e-18:  # rounding alone
        return Estimate(mean, mean, mean, None)
    df = total**2 / below
    error = math.sqrt(variance)
    half = float(stdtrit(df, 0.975)) * error
    return Estimate(mean, mean - half, mean + half, min(1.0, 2 * float(stdtr(df, -abs(mean) / error))))


def share(values: Sequence[Sequence[float]], crossed: bool) -> Estimate:
    """The mean of shares x[s][q] in [0, 1], with Wilson's interval over the questions where there is one seed or
    nothing varies. `crossed`: every seed has the same questions; else the seeds alone say what varies.

    ValueError without questions.
    """
    flat = [x for row in values for x in row]
    if not flat:
        raise ValueError("no questions")
    if len(values) > 1 and min(map(len, values)) > 1:
        found = crossed_mean(values) if crossed else mean_of([math.fsum(row) / len(row) for row in values])
        if found.low < found.high:
            return Estimate(found.value, max(0.0, found.low), min(1.0, found.high), None)
    mean = math.fsum(flat) / len(flat)
    questions = len(values[0]) if crossed else len(flat)
    interval = wilson(min(float(questions), mean * questions), questions)
    return Estimate(mean, interval.low, interval.high, None)


def difference(values: Sequence[Sequence[float]], crossed: bool) -> Estimate | None:
    """The mean of paired differences x[s][q] in [-1, 1]; None with fewer than two seeds (`statistics.paired_difference`
    is for one) or questions. Where nothing varies, as wide as Wilson's interval of no difference in so many."""
    if len(values) < 2 or min(map(len, values)) < 2:
        return None
    found = crossed_mean(values) if crossed else mean_of([math.fsum(row) / len(row) for row in values])
    if found.low < found.high:
        return Estimate(found.value, max(-1.0, found.low), min(1.0, found.high), found.p)
    half = wilson(0, len(values[0])).high
    return Estimate(found.value, max(-1.0, found.value - half), min(1.0, found.value + half), None)
