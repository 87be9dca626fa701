"""ProcessBench (arXiv:2412.06559) for a judge of whole solutions.

This is not the published task, which is to find the first wrong step: an error counts as found when the solution is
refused, wherever the error stands, so a judge's figures are at least what they would be there.
"""

from collections.abc import Sequence

from yonder.core.statistics import combined
from yonder.data.columns import Row
from yonder.errors import DataError
from yonder.evaluation.judge_benchmarks.base import (
    Accepts,
    Benchmark,
    Figures,
    Item,
    Scored,
    Trial,
    average,
    id_of,
    shares,
    text_of,
    texts_of,
)
from yonder.schema import Interval

SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
ALL_RIGHT = -1  # the label of a solution without a wrong step


def read(row: Row) -> Item:
    """A row with `id` (SUBSET-NUMBER), `problem`, `steps` and `label`: the first wrong step from 0, or -1."""
    name, steps, label = id_of(row, "id"), texts_of(row, "steps"), row.values.get("label")
    subset = name.rpartition("-")[0]
    if subset not in SUBSETS:
        raise DataError(f"{row.where}: `id` is {name!r}; write one of {', '.join(SUBSETS)}, then - and a number")
    if isinstance(label, bool) or not isinstance(label, int) or not ALL_RIGHT <= label < len(steps):
        mend = f"write the first wrong step, 0 to {len(steps) - 1}, or -1 where all are right"
        raise DataError(f"{row.where}: `label` is {label!r}; {mend}")
    return Item(name, subset, text_of(row, "problem"), ("\n\n".join(steps),), (label == ALL_RIGHT,))


def score(scored: Sequence[Scored], accepts: Accepts) -> Figures:
    """For each subset the share of erroneous solutions refused, of right ones accepted, and their harmonic mean."""
    trials = [
        Trial(_name(one.item.group, right), float(accepts(one.gaps[0]) is right), one.item.question)
        for one in scored
        for right in one.item.right
    ]
    found = shares(trials)
    figures: Figures = {}
    for subset in SUBSETS:
        both = [found.get(_name(subset, right)) for right in (False, True)]
        figures |= {_name(subset, right): part for right, part in zip((False, True), both, strict=True)}
        figures[f"{subset} F1"] = harmonic(*both)
    return figures | {"average F1": average(figures, [f"{subset} F1" for subset in SUBSETS])}


def harmonic(error: Interval | None, correct: Interval | None) -> Interval | None:
    """2 ab / (a + b), and 0 where both are 0; None while one is not measured."""
    if error is None or correct is None:
        return None
    return combined(lambda parts: 2 * parts[0] * parts[1] / sum(parts) if any(parts) else 0.0, [error, correct])


def _name(subset: str, right: bool) -> str:
    return f"{subset} {'correct' if right else 'error'}"


BENCHMARK = Benchmark(
    title="ProcessBench, whole solutions",
    repository="Qwen/ProcessBench",
    splits=SUBSETS,
    default=SUBSETS,
    prompt="steps",
    columns=("id", "problem", "steps", "label"),
    read=read,
    score=score,
    note="whole solutions refused or accepted at delta; the published F1 asks for the first wrong step: do not compare",
)
