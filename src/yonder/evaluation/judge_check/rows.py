"""Labeled responses beside what a judge says of them: what every figure of a check is made from."""

from collections.abc import Sequence
from typing import NamedTuple

from yonder.core.calibration import draw_within_question
from yonder.core.resampling import Figures, figures
from yonder.schema import JudgeScore, Response, Score

DRAW_SEED = 0  # of the pairs of [J]'s protocol, of the halves and of the resamples


class Judged(NamedTuple):
    """One labeled response with its probability."""

    response: Response
    probability: float
    right: bool
    logit_gap: float | None  # nats, of a judge
    guarded: bool = False  # set to 0 by a guard, the judge was not asked


def judged(response: Response, score: Score) -> Judged | None:
    """Probabilities are compared, not rewards: `details["probability"]` where there is one (the reward is 0 below
    delta, which would make ties), else the value (a guard's 0). None: unscored."""
    if score.value is None:
        return None
    probability = score.details.get("probability")
    gap = score.logit_gap if isinstance(score, JudgeScore) else None
    value = probability if isinstance(probability, float) else score.value
    return Judged(response, value, response.correct is True, gap, "guard" in score.details)


def questions_of(rows: Sequence[Judged]) -> list[str]:
    """The question of every row: responses to one question are alike."""
    return [row.response.prompt_id for row in rows]


def figures_of(rows: Sequence[Judged], delta: float, values: Sequence[float] | None = None) -> Figures:
    """Every figure of these rows, with its interval over questions; `values`: probabilities in place of their own.

    Where a guard caught all of them, no probability of the judge's is known: no Brier score, no ECE.
    """
    values = [row.probability for row in rows] if values is None else values
    found = figures(questions_of(rows), values, [row.right for row in rows], delta, DRAW_SEED)
    return found._replace(brier=None, ece=None) if all(row.guarded for row in rows) else found


def drawn_pairs(rows: Sequence[Judged]) -> list[tuple[int, int]]:
    """[J]'s protocol: indices of one right and one wrong response of every question that has both."""
    return draw_within_question(questions_of(rows), [row.right for row in rows], DRAW_SEED)
