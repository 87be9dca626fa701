"""ProcessBench (arXiv:2412.06559): which step is the first wrong one. The score is that of `code/run_eval*.py` there.

The judge is asked about the first step, the first two, and so on; the first such beginning that it refuses at delta
ends in what it takes for the first wrong step. Beside this, whether it refuses the wrong solutions as a whole.
"""

from collections.abc import Iterable, Iterator, Sequence

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
    beginnings = tuple("\n\n".join(steps[: k + 1]) for k in range(len(steps)))
    right = tuple(label == ALL_RIGHT or k < label for k in range(len(steps)))
    return Item(name, subset, text_of(row, "problem"), beginnings, right)


def score(scored: Sequence[Scored], accepts: Accepts) -> Figures:
    """For each subset the share of erroneous solutions whose first wrong step is found, of right ones in which none is
    found, and their harmonic mean, F1; then the F1 of refusing and accepting whole solutions; the averages of both.
    """
    found = shares(trial for one in scored for trial in _trials(one, accepts))
    figures: Figures = {}
    for subset in SUBSETS:
        error, correct = (found.get(f"{subset} {kind}") for kind in ("error", "correct"))
        figures |= {f"{subset} error": error, f"{subset} correct": correct, f"{subset} F1": harmonic(error, correct)}
    for subset in SUBSETS:
        both = (found.get(f"{subset} whole {kind}") for kind in ("error", "correct"))
        figures[f"{subset} whole F1"] = harmonic(*both)
    for kind in ("whole F1", "F1"):
        figures[f"average {kind}"] = average(figures, [f"{subset} {kind}" for subset in SUBSETS])
    return figures


def decided(one: Scored, accepts: Accepts) -> bool:
    """Whether the first refused beginning is known: one was refused, or all have a score."""
    return one.complete or first_wrong(map(accepts, one.gaps)) != ALL_RIGHT


def first_wrong(good: Iterable[bool]) -> int:
    """The place of the first that is not good, from 0; -1 where all are."""
    return next((k for k, fine in enumerate(good) if not fine), ALL_RIGHT)


def harmonic(error: Interval | None, correct: Interval | None) -> Interval | None:
    """2 ab / (a + b), and 0 where both are 0; None while one is not measured."""
    if error is None or correct is None:
        return None
    return combined(lambda parts: 2 * parts[0] * parts[1] / sum(parts) if any(parts) else 0.0, [error, correct])


def _trials(one: Scored, accepts: Accepts) -> Iterator[Trial]:
    label, group, question = first_wrong(one.item.right), one.item.group, one.item.question
    kind = "correct" if label == ALL_RIGHT else "error"
    yield Trial(f"{group} {kind}", float(first_wrong(map(accepts, one.gaps)) == label), question)
    if one.complete:
        yield Trial(f"{group} whole {kind}", float(accepts(one.gaps[-1]) is (label == ALL_RIGHT)), question)


BENCHMARK = Benchmark(
    title="ProcessBench",
    repository="Qwen/ProcessBench",
    splits=SUBSETS,
    default=SUBSETS,
    prompt="steps",
    columns=("id", "problem", "steps", "label"),
    read=read,
    score=score,
    note="the first wrong step is where the judge first refuses; whole F1 (refusing for any reason) is not published",
    usable=decided,
)
