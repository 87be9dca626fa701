"""Parts of the responses that a judge may treat differently: by source, by length, by how a wrong one is wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yonder.core import calibration
from yonder.data.responses import outcome
from yonder.evaluation.judge_check.rows import Judged, figures_of
from yonder.schema import Interval, Response

HISTOGRAM_BINS = 10


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
    false_positive_rate: Interval | None


@dataclass(frozen=True, slots=True)
class OutcomeSlice:
    """Wrong responses by how they are wrong: a judge that only sees whether a program runs accepts those that do."""

    outcome: str  # as `data.responses.outcome` has it
    n: int
    false_positive_rate: Interval | None


def by_source(asked: Sequence[Response], rows: Sequence[Judged], delta: float) -> tuple[SourceRow, ...]:
    """`asked`: the labeled responses, scored or not."""
    counts = Counter(response.source for response in asked)
    found: list[SourceRow] = []
    for source in counts:
        mine = [row for row in rows if row.response.source == source]
        values, labels = [row.probability for row in mine], [row.right for row in mine]
        found.append(
            SourceRow(
                source=source,
                n=len(mine),
                right=sum(labels),
                mean_score=float(np.mean(values)) if mine else None,
                accuracy=calibration.accuracy_at(values, labels, delta),
                false_positive_rate=calibration.false_positive_rate(values, labels, delta),
                false_negative_rate=calibration.false_negative_rate(values, labels, delta),
                unscored=counts[source] - len(mine),
            )
        )
    return tuple(found)


def by_length(rows: Sequence[Judged], delta: float) -> tuple[LengthSlice, ...]:
    """Quartiles of the wrong responses by length; fewer when there are fewer than four."""
    wrong = sorted((row for row in rows if not row.right), key=lambda row: len(row.response.response))
    parts = [[wrong[i] for i in part] for part in np.array_split(np.arange(len(wrong)), 4) if len(part)]
    return tuple(
        LengthSlice(
            len(part[0].response.response),
            len(part[-1].response.response),
            len(part),
            figures_of(part, delta).false_positive_rate,
        )
        for part in parts
    )


def by_outcome(rows: Sequence[Judged], delta: float) -> tuple[OutcomeSlice, ...]:
    """Wrong responses by outcome, the most frequent first; nothing where no label says how it came about."""
    wrong: dict[str, list[Judged]] = {}
    for row in rows:
        if not row.right:
            wrong.setdefault(outcome(row.response) or "not known", []).append(row)
    if set(wrong) <= {"not known"}:
        return ()
    ordered = sorted(wrong.items(), key=lambda item: -len(item[1]))
    return tuple(OutcomeSlice(name, len(part), figures_of(part, delta).false_positive_rate) for name, part in ordered)


def histogram(values: Sequence[float]) -> tuple[int, ...]:
    """Counts in ten equal bins from 0 to 1."""
    counts, _ = np.histogram(np.asarray(values, dtype=np.float64), bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return tuple(int(count) for count in counts)
