"""What a judge is worth as a chooser (best of n), and beside the judge's own likelihood of the response ([J]'s LL)."""

from collections.abc import Sequence
from dataclasses import dataclass

from yonder.core.best_of import BestOf, best_of_n
from yonder.core.calibration import pairwise_wins
from yonder.core.resampling import figures
from yonder.core.statistics import bootstrap_mean, wilson
from yonder.evaluation.judge_check.rows import DRAW_SEED, Judged, drawn_pairs
from yonder.schema import Interval

SIZES = (4, 16)


@dataclass(frozen=True, slots=True)
class BestOfRow:
    """Means over the questions with at least n scored responses, each question counted once."""

    n: int
    questions: int
    lift: Interval  # chosen less drawn
    chosen: Interval  # share right of the responses that the judge likes best among n
    drawn: Interval  # share right of all
    oracle: Interval  # share of questions with a right one among n: pass@n, which no judge can exceed


@dataclass(frozen=True, slots=True)
class RankRow:
    """How one score ranks the responses of [J]'s protocol."""

    pairwise: Interval
    auroc: Interval | None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The judge's Yes or No beside its likelihood, on the same responses: one right and one wrong of each question."""

    questions: int
    yes_or_no: RankRow | None  # None: no question was measured
    likelihood: RankRow | None
    note: str  # why it was not measured; empty where it was


def best_of(rows: Sequence[Judged]) -> tuple[BestOfRow, ...]:
    """One row for each of `SIZES` that some question has enough responses for."""
    groups: dict[str, list[Judged]] = {}
    for row in rows:
        groups.setdefault(row.response.prompt_id, []).append(row)
    return tuple(row for n in SIZES if (row := _best_of(list(groups.values()), n)) is not None)


def _best_of(groups: Sequence[Sequence[Judged]], n: int) -> BestOfRow | None:
    found: list[BestOf] = []
    for group in groups:
        one = best_of_n([row.probability for row in group], [row.right for row in group], n)
        found += [one] if one is not None else []
    if not found:
        return None
    return BestOfRow(
        n=n,
        questions=len(found),
        lift=bootstrap_mean([one.lift for one in found], DRAW_SEED),
        chosen=bootstrap_mean([one.chosen for one in found], DRAW_SEED),
        drawn=bootstrap_mean([one.drawn for one in found], DRAW_SEED),
        oracle=bootstrap_mean([one.oracle for one in found], DRAW_SEED),
    )


def baseline(rows: Sequence[Judged], likelihoods: Sequence[float | None], note: str) -> Baseline:
    """Compare on the drawn pairs that have both likelihoods. `likelihoods`: of `rows`, None where not measured."""
    pairs = [(i, j) for i, j in drawn_pairs(rows) if likelihoods[i] is not None and likelihoods[j] is not None]
    if not pairs:
        return Baseline(0, None, None, note or "no drawn response has a likelihood")
    return Baseline(
        questions=len(pairs),
        yes_or_no=_rank(rows, pairs, [row.probability for row in rows]),
        likelihood=_rank(rows, pairs, [value or 0.0 for value in likelihoods]),
        note="",
    )


def _rank(rows: Sequence[Judged], pairs: Sequence[tuple[int, int]], values: Sequence[float]) -> RankRow:
    used = [i for pair in pairs for i in pair]
    return RankRow(
        pairwise=wilson(pairwise_wins([(values[i], values[j]) for i, j in pairs]), len(pairs)),
        auroc=figures(
            [rows[i].response.prompt_id for i in used],
            [values[i] for i in used],
            [rows[i].right for i in used],
            0.5,
            DRAW_SEED,
        ).auroc,
    )
