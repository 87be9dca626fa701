"""Measure a judge or classifier on labeled responses before it may train anything.

Probabilities are compared, not rewards: `details["probability"]` of a score where it has one (the reward itself is 0
below delta, which would make ties), else its value (a gate's 0).
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from yonder.core import calibration
from yonder.core.calibration import ReliabilityBin
from yonder.core.judging import judge_value
from yonder.core.statistics import wilson
from yonder.evaluation.admission import MASS_FAIL, Admission, admit
from yonder.evaluation.attack_table import AttackTable, attack_table
from yonder.schema import Interval, JudgeScore, Response, Score

HISTOGRAM_BINS = 10


class Scored(NamedTuple):
    """One labeled response with its probability."""

    response: Response
    probability: float
    right: bool
    logit_gap: float | None  # nats, of a judge


@dataclass(frozen=True, slots=True)
class SourceRow:
    """How the judge treats the responses of one source."""

    source: str
    n: int  # scored
    right: int
    mean_score: float | None  # None: none scored
    accuracy: float | None  # at delta
    false_positive_rate: float | None  # None: no wrong response
    false_negative_rate: float | None  # None: no right response
    unscored: int


@dataclass(frozen=True, slots=True)
class LengthSlice:
    """Wrong responses of similar length: a judge that is fooled by length accepts more of one slice."""

    low: int  # characters, shortest
    high: int  # longest
    n: int
    false_positive_rate: float


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """Everything that a user should see before this judge trains a policy. None: not defined for these responses."""

    admission: Admission
    pairwise: (
        Interval  # [J] C.1: within-question pairwise accuracy, ties 1/2; n = questions with a right and a wrong one
    )
    auroc: float | None
    auprc: float | None
    delta: float  # where the rates below are taken
    accuracy: float | None
    false_positive_rate: float | None
    false_negative_rate: float | None
    brier: float | None
    ece: float | None
    ece_at_suggested_tau: float | None
    reliability: tuple[ReliabilityBin, ...]
    histogram_right: tuple[int, ...]  # counts in ten equal bins from 0 to 1
    histogram_wrong: tuple[int, ...]
    by_source: tuple[SourceRow, ...]
    by_length: tuple[LengthSlice, ...]
    attacks: AttackTable | None  # None: none were made
    n: int  # responses behind the figures: labeled, scored, no attack
    right: int  # of them
    unlabeled: int  # left out
    unscored: int  # left out; of attacks, see their table
    reasons: dict[str, int]  # why unscored
    mass_mean: float | None  # mean P(Yes) + P(No), unscored responses included; None without a judge
    suggested_tau: float | None
    suggested_delta: float | None  # on the scale of suggested_tau where there is one

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; figures that are not known are null."""
        record = asdict(self)
        record["reliability"] = [row._asdict() for row in self.reliability]
        record["pairwise"]["value"] = None if math.isnan(self.pairwise.value) else self.pairwise.value
        return record


def check_judge(
    responses: Sequence[Response],
    scores: Sequence[Score],
    delta: float,
    *,
    floor: float = 0.0,
    attacks: Collection[str] = (),
    withheld: Collection[str] = (),
    max_false_positive_rate: float = 0.1,
    mass_floor: float = MASS_FAIL,
) -> JudgeCheck:
    """Compare scores with labels; `scores[i]` belongs to `responses[i]`.

    `attacks`: kinds of response built to fool the judge, named by their source; they stand in a table of their own,
    since easy negatives would flatter every other figure. `withheld`: those that no judge is fitted on. delta 0 cuts
    nothing, so the rates are then taken at 0.5. `floor`: least pairwise accuracy. `max_false_positive_rate`: what the
    suggested delta aims at [ours].
    """
    delta = delta or 0.5
    pairs = list(zip(responses, scores, strict=True))
    labeled = [(r, score) for r, score in pairs if r.correct is not None and r.source not in attacks]
    rows = [row for response, score in labeled if (row := _scored(response, score)) is not None]
    values, labels = [row.probability for row in rows], [row.right for row in rows]
    drawn = calibration.pair_within_question([row.response.prompt_id for row in rows], values, labels, seed=0)
    pairwise = wilson(calibration.pairwise_wins(drawn), len(drawn))
    tau, suggested = _suggestions(rows, max_false_positive_rate)
    mass_mean = _mass_mean([score for _, score in labeled])
    reasons = Counter(score.reason or "no reason given" for _, score in labeled if score.value is None)
    rate = calibration.false_positive_rate(values, labels, delta)
    made = [(r, row.probability if (row := _scored(r, score)) else None) for r, score in pairs if r.source in attacks]
    fooled = attack_table(made, delta, withheld) if made else None
    rates = fooled.rates() if fooled else {}
    return JudgeCheck(
        admission=admit(pairwise, floor, rate, mass_mean, (reasons.total(), len(labeled)), rates, mass_floor),
        pairwise=pairwise,
        auroc=calibration.auroc(values, labels),
        auprc=calibration.auprc(values, labels),
        delta=delta,
        accuracy=calibration.accuracy_at(values, labels, delta),
        false_positive_rate=rate,
        false_negative_rate=calibration.false_negative_rate(values, labels, delta),
        brier=calibration.brier(values, labels),
        ece=calibration.ece(values, labels),
        ece_at_suggested_tau=None if tau is None else calibration.ece([_tempered(row, tau) for row in rows], labels),
        reliability=tuple(calibration.reliability_bins(values, labels)),
        histogram_right=_histogram([row.probability for row in rows if row.right]),
        histogram_wrong=_histogram([row.probability for row in rows if not row.right]),
        by_source=_by_source(labeled, rows, delta),
        by_length=_by_length(rows, delta),
        attacks=fooled,
        n=len(rows),
        right=sum(labels),
        unlabeled=len(pairs) - len(labeled) - len(made),
        unscored=reasons.total(),
        reasons=dict(reasons.most_common()),
        mass_mean=mass_mean,
        suggested_tau=tau,
        suggested_delta=suggested,
    )


def _mass_mean(scores: Sequence[Score]) -> float | None:
    masses = [score.mass for score in scores if isinstance(score, JudgeScore) and score.mass is not None]
    return float(np.mean(masses)) if masses else None


def _scored(response: Response, score: Score) -> Scored | None:
    if score.value is None:
        return None
    probability = score.details.get("probability")
    gap = score.logit_gap if isinstance(score, JudgeScore) else None
    return Scored(
        response, probability if isinstance(probability, float) else score.value, response.correct is True, gap
    )


def _suggestions(rows: Sequence[Scored], max_false_positive_rate: float) -> tuple[float | None, float | None]:
    """Tau from the responses that the judge was asked about, then delta on that scale, gates' zeros included."""
    asked = [(row.logit_gap, row.right) for row in rows if row.logit_gap is not None]
    tau = calibration.fit_temperature([gap for gap, _ in asked], [right for _, right in asked])
    values = [_tempered(row, tau) for row in rows]
    return tau, calibration.suggest_delta(values, [row.right for row in rows], max_false_positive_rate)


def _tempered(row: Scored, tau: float | None) -> float:
    if tau is None or row.logit_gap is None:
        return row.probability
    return judge_value(row.logit_gap, tau, delta=0.0)


def _by_source(
    labeled: Sequence[tuple[Response, Score]], scored: Sequence[Scored], delta: float
) -> tuple[SourceRow, ...]:
    asked = Counter(response.source for response, _ in labeled)
    rows: list[SourceRow] = []
    for source in asked:
        mine = [row for row in scored if row.response.source == source]
        values, labels = [row.probability for row in mine], [row.right for row in mine]
        rows.append(
            SourceRow(
                source=source,
                n=len(mine),
                right=sum(labels),
                mean_score=float(np.mean(values)) if mine else None,
                accuracy=calibration.accuracy_at(values, labels, delta),
                false_positive_rate=calibration.false_positive_rate(values, labels, delta),
                false_negative_rate=calibration.false_negative_rate(values, labels, delta),
                unscored=asked[source] - len(mine),
            )
        )
    return tuple(rows)


def _by_length(rows: Sequence[Scored], delta: float) -> tuple[LengthSlice, ...]:
    """Quartiles of the wrong responses by length; fewer when there are fewer than four."""
    wrong = sorted((len(row.response.response), row.probability >= delta) for row in rows if not row.right)
    slices: list[LengthSlice] = []
    for part in np.array_split(np.arange(len(wrong)), 4):
        if len(part):
            mine = [wrong[i] for i in part]
            slices.append(LengthSlice(mine[0][0], mine[-1][0], len(mine), sum(hit for _, hit in mine) / len(mine)))
    return tuple(slices)


def _histogram(values: Sequence[float]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.asarray(values, dtype=np.float64), bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return tuple(int(count) for count in counts)
