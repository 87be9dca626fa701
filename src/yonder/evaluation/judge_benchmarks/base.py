"""What the judge benchmarks share: an item, a scored item, a figure, and checks of a row's columns."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from yonder.core.statistics import clustered_share, combined
from yonder.data.columns import Row
from yonder.errors import DataError
from yonder.schema import Interval


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its responses, each of which the judge scores on its own."""

    id: str
    group: str  # subset, domain or category
    question: str
    responses: tuple[str, ...]  # the right ones first, except in JudgeBench
    right: tuple[bool, ...]  # of each response
    kind: str = ""  # of RewardBench 2's Ties: ref or tied


class Scored(NamedTuple):
    """An item with the scores of its responses, up to the first one that has none."""

    item: Item
    gaps: tuple[float, ...]  # z_yes - z_no of each response, nats

    @property
    def complete(self) -> bool:
        """Whether every response has a score."""
        return len(self.gaps) == len(self.item.responses)

    def of(self, right: bool) -> list[float]:
        """The gaps of the right or of the wrong responses."""
        return [gap for gap, good in zip(self.gaps, self.item.right, strict=False) if good is right]


class Trial(NamedTuple):
    """One contribution to a share."""

    name: str  # the figure's
    value: float  # 0 to 1
    question: str  # trials with one question are alike


Figures = dict[str, Interval | None]  # in the order of the table; None: not measured
Accepts = Callable[[float], bool]  # whether a gap passes the judge's delta


def complete(one: Scored, accepts: Accepts) -> bool:
    """Whether every response has a score, whatever it is."""
    return one.complete


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A format: where it comes from, how a row is read, and the official score."""

    title: str
    repository: str  # on the hub
    splits: tuple[str, ...]  # that it has there
    default: tuple[str, ...]  # those that are read
    prompt: str  # shipped judge prompt that fits
    columns: tuple[str, ...]  # needed
    read: Callable[[Row], Item]
    score: Callable[[Sequence[Scored], Accepts], Figures]
    note: str  # what the figures are
    usable: Callable[[Scored, Accepts], bool] = complete  # whether the scores of an item are enough for the figures


def shares(trials: Iterable[Trial]) -> dict[str, Interval]:
    """The mean of each figure's trials, with an interval that is clustered by question."""
    found: dict[str, tuple[list[float], list[str]]] = {}
    for trial in trials:
        values, questions = found.setdefault(trial.name, ([], []))
        values.append(trial.value)
        questions.append(trial.question)
    return {name: clustered_share(*both) for name, both in found.items()}


def average(figures: Mapping[str, Interval | None], names: Sequence[str]) -> Interval | None:
    """The plain mean of figures of different questions; None while one of them is not measured."""
    parts = [part for name in names if (part := figures.get(name)) is not None]
    return combined(mean, parts) if len(parts) == len(names) else None


def mean(values: Sequence[float]) -> float:
    """The plain mean."""
    return math.fsum(values) / len(values)


def check_columns(rows: Sequence[Row], columns: Sequence[str], source: str, title: str) -> None:
    """DataError for a source without rows or without a column that the format has."""
    if not rows:
        raise DataError(f"{source} is empty; give a file with at least one row of {title}")
    have = {name: None for row in rows for name in row.values}
    for column in columns:
        if column not in have:
            raise DataError(f"{source} has no column `{column}`, which {title} has; it has {', '.join(have) or 'none'}")


def text_of(row: Row, column: str) -> str:
    """A text; DataError for anything else."""
    value = row.values.get(column)
    if not isinstance(value, str):
        raise DataError(f"{row.where}: `{column}` is {_found(value)}, not a text; write a text or delete the row")
    return value


def texts_of(row: Row, column: str, count: int | None = None) -> tuple[str, ...]:
    """A list of `count` texts, or of one and more; DataError for anything else."""
    value = row.values.get(column)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in cast(list[Any], value)):
        raise DataError(f"{row.where}: `{column}` is {_found(value)}, not a list of texts; mend or delete the row")
    found = tuple(cast(list[str], value))
    if not found or (count is not None and len(found) != count):
        wanted = "1 or more" if count is None else str(count)
        raise DataError(f"{row.where}: `{column}` has the length {len(found)}, not {wanted}; mend or delete the row")
    return found


def id_of(row: Row, column: str) -> str:
    """A text or a whole number, as text; DataError for anything else."""
    value = row.values.get(column)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{row.where}: `{column}` is {_found(value)}, not a text or a number; mend or delete the row")
    return str(value)


def one_of(row: Row, column: str, known: Sequence[str]) -> str:
    """One of the known words; DataError for anything else."""
    value = row.values.get(column)
    if value not in known:
        raise DataError(f"{row.where}: `{column}` is {value!r}; write one of {', '.join(known)}")
    return str(value)


def _found(value: object) -> str:
    if isinstance(value, list):
        return "a list with other things"
    return "missing" if value is None else f"a {type(value).__name__}"
