"""Measure a judge or classifier on labeled responses before it may train anything."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from yonder.core import calibration
from yonder.core.calibration import ReliabilityBin
from yonder.core.resampling import RESAMPLES
from yonder.core.statistics import wilson
from yonder.evaluation.judge_check.admission import MASS_FAIL, Admission, admit
from yonder.evaluation.judge_check.attack_table import AttackTable, attack_table
from yonder.evaluation.judge_check.choice import Baseline, BestOfRow, baseline, best_of
from yonder.evaluation.judge_check.fitted import Fitted, fit_half
from yonder.evaluation.judge_check.rows import Judged, drawn_pairs, figures_of, judged, questions_of
from yonder.evaluation.judge_check.slices import (
    LengthSlice,
    OutcomeSlice,
    SourceRow,
    by_length,
    by_outcome,
    by_source,
    histogram,
)
from yonder.schema import Interval, JudgeScore, Response, Score

NOT_MEASURED = "not measured"  # of a likelihood
ABOUT = {
    "intervals": f"95 %, bootstrap of questions ({RESAMPLES} times); pairwise, attacks, rates of 0 or 1: Wilson",
    "n": "of an interval: the questions behind it; elsewhere: responses",
    "pairwise": "share of questions whose drawn right response scores above the drawn wrong one, ties 1/2",
    "auroc": "chance that a right response scores above a wrong one; chance level 0.5",
    "auprc": "average precision of right responses; chance level is their share",
    "accuracy": "share of responses on which (score >= delta) agrees with the label",
    "false_positive_rate": "share of wrong responses at delta or above",
    "false_negative_rate": "share of right responses below delta",
    "brier": "mean squared difference of score and label; 0 is best",
    "ece": "mean difference of score and share right, over 15 bins of equal size; 0 is best",
    "best_of": "lift: share right of the best liked of n responses, less the share right of all; oracle: pass@n",
    "baseline": "Yes or No beside the mean token log-likelihood of the response, both on the drawn pairs",
    "fitted": "tau and delta fitted on one half of the questions; their figures are of the other half alone",
    "by_outcome": "wrong responses: `wrong answer` (a program that runs, a text with an answer), or `no answer`",
    "speed": "of the one call that scored all responses, attacks included; verdicts: the model was asked",
}


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """How a judge is measured."""

    delta: float  # 0 cuts nothing, so the rates are then taken at 0.5
    floor: float = 0.0  # least pairwise accuracy
    mass_floor: float = MASS_FAIL  # least mean mass
    attacks: Collection[str] = ()  # kinds of response built to fool the judge, named by their source: see AttackTable
    withheld: Collection[str] = ()  # those of them that no judge is fitted on
    likelihood_questions: int = 0  # whose drawn pair's likelihood is measured
    max_false_positive_rate: float = 0.1  # what the fitted delta aims at [ours]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the responses and attacks were scored, and what a server was paid for it."""

    responses: int
    verdicts: int  # of them, those about which the model was asked: not those that a guard caught
    seconds: float
    verdicts_per_s: float
    tokens: int | None  # that the model read and wrote; None: not known
    tokens_per_s: float | None
    cost: float | None  # in the currency of `price_per_million`; None: no price, or no server


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """Everything that a user should see before this judge trains a policy. None: not defined for these responses."""

    admission: Admission
    pairwise: (
        Interval  # [J] C.1: within-question pairwise accuracy, ties 1/2; n = questions with a right and a wrong one
    )
    auroc: Interval | None
    auprc: Interval | None
    delta: float  # the recipe's, where the rates below are taken
    accuracy: Interval | None
    false_positive_rate: Interval | None
    false_negative_rate: Interval | None
    brier: Interval | None
    ece: Interval | None
    best_of: tuple[BestOfRow, ...]  # none: no question has enough responses
    baseline: Baseline
    fitted: Fitted
    reliability: tuple[ReliabilityBin, ...]
    histogram_right: tuple[int, ...]  # counts in ten equal bins from 0 to 1
    histogram_wrong: tuple[int, ...]
    by_source: tuple[SourceRow, ...]
    by_length: tuple[LengthSlice, ...]
    by_outcome: tuple[OutcomeSlice, ...]
    attacks: AttackTable | None  # None: none were made
    n: int  # responses behind the figures: labeled, scored, no attack
    right: int  # of them
    questions: int  # of them
    unlabeled: int  # left out
    unscored: int  # left out; of attacks, see their table
    guarded: int  # of n, those that a guard set to 0 without asking the judge
    reasons: dict[str, int]  # why unscored
    mass_mean: float | None  # mean P(Yes) + P(No), unscored responses included; None without a judge
    speed: Speed | None  # None: not timed

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with a line on each figure; what is not known is null."""
        record = asdict(self)
        record["reliability"] = [row._asdict() for row in self.reliability]
        return {"about": ABOUT} | _without_nan(record)


def check_judge(
    responses: Sequence[Response],
    scores: Sequence[Score],
    plan: CheckPlan,
    likelihoods: Sequence[float | None] | str = NOT_MEASURED,
    speed: Speed | None = None,
) -> JudgeCheck:
    """Compare scores with labels; `scores[i]` belongs to `responses[i]`. `likelihoods`: of each response under the
    judge's model, or why there are none."""
    delta = plan.delta or 0.5
    pairs = list(zip(responses, scores, strict=True))
    labeled = [(r, score) for r, score in pairs if r.correct is not None and r.source not in plan.attacks]
    rows, places = judged_rows(responses, scores, plan.attacks)
    values, labels = [row.probability for row in rows], [row.right for row in rows]
    drawn = [(values[right], values[wrong]) for right, wrong in drawn_pairs(rows)]
    pairwise = wilson(calibration.pairwise_wins(drawn), len(drawn))
    mass_mean = _mass_mean([score for _, score in labeled])
    reasons = Counter(score.reason or "no reason given" for _, score in labeled if score.value is None)
    guarded = sum("guard" in score.details for _, score in labeled)
    figures = figures_of(rows, delta)
    rate = figures.false_positive_rate and figures.false_positive_rate.value
    made = [
        (r, row.probability if (row := judged(r, score)) else None) for r, score in pairs if r.source in plan.attacks
    ]
    fooled = attack_table(made, delta, plan.withheld) if made else None
    rates = fooled.rates() if fooled else {}
    why_none = likelihoods if isinstance(likelihoods, str) else ""
    known = [None] * len(rows) if isinstance(likelihoods, str) else [likelihoods[i] for i in places]
    asked = (reasons.total(), len(labeled) - guarded)
    return JudgeCheck(
        admission=admit(pairwise, plan.floor, rate, mass_mean, asked, rates, plan.mass_floor),
        pairwise=pairwise,
        **figures._asdict(),
        delta=delta,
        best_of=best_of(rows),
        baseline=baseline(rows, known, why_none),
        fitted=fit_half(rows, plan.max_false_positive_rate),
        reliability=tuple(calibration.reliability_bins(values, labels)),
        histogram_right=histogram([row.probability for row in rows if row.right]),
        histogram_wrong=histogram([row.probability for row in rows if not row.right]),
        by_source=by_source([response for response, _ in labeled], rows, delta),
        by_length=by_length(rows, delta),
        by_outcome=by_outcome(rows, delta),
        attacks=fooled,
        n=len(rows),
        right=sum(labels),
        questions=len(set(questions_of(rows))),
        unlabeled=len(pairs) - len(labeled) - len(made),
        unscored=reasons.total(),
        guarded=guarded,
        reasons=dict(reasons.most_common()),
        mass_mean=mass_mean,
        speed=speed,
    )


def judged_rows(
    responses: Sequence[Response], scores: Sequence[Score], attacks: Collection[str] = ()
) -> tuple[list[Judged], list[int]]:
    """The labeled and scored responses that are no attacks, and their places among all."""
    found = [
        (row, i)
        for i, (response, score) in enumerate(zip(responses, scores, strict=True))
        if response.correct is not None and response.source not in attacks
        if (row := judged(response, score)) is not None
    ]
    return [row for row, _ in found], [i for _, i in found]


def _without_nan(value: Any) -> Any:
    """The same with None where a number is not known."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in cast(dict[str, Any], value).items()}
    return [_without_nan(item) for item in cast(list[Any], value)] if isinstance(value, list | tuple) else value


def _mass_mean(scores: Sequence[Score]) -> float | None:
    masses = [score.mass for score in scores if isinstance(score, JudgeScore) and score.mass is not None]
    return float(np.mean(masses)) if masses else None
