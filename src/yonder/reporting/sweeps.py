"""A sweep's folder (`sweep.json`) read back: its runs and its table. What is missing is left out and named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from yonder.errors import StorageError
from yonder.reporting.records import RunRecord, number, read_object, read_run

FILE = "sweep.json"


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One seed of one row; `run` is its place among the records, None while it has no readable folder."""

    seed: int | None
    status: str
    error: str
    run: int | None


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One point of the grid with all its seeds."""

    name: str
    overrides: tuple[str, ...]
    runs: tuple[SweepRun, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference from the baseline, in percentage points, with its 95 % interval."""

    points: float
    low: float | None
    high: float | None
    p: float | None
    against: str | None = None  # the row that it is to


@dataclass(frozen=True, slots=True)
class SweepCell:
    """A row's checkpoint on a benchmark over the seeds."""

    row: str
    benchmark: str
    checkpoint: str
    values: tuple[float, ...]  # accuracy of each finished seed
    seeds: tuple[int | None, ...]  # of the same length
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    n: int | None
    difference: Difference | None
    warnings: tuple[str, ...] = ()  # what a reader of it must know


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """A sweep in memory, beside the records of its runs."""

    path: Path
    title: str
    recipe: str
    notes: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    baseline: str | None
    benchmarks: tuple[str, ...]
    cells: tuple[SweepCell, ...]
    problems: tuple[str, ...]

    def row_of(self, run: int) -> int | None:
        """The place of the row that a run belongs to."""
        places = (at for at, row in enumerate(self.rows) if any(found.run == run for found in row.runs))
        return next(places, None)


def is_sweep(path: Path) -> bool:
    """Does the folder hold a sweep?"""
    return (Path(path) / FILE).is_file()


def planned_runs(path: Path) -> list[Path]:
    """The folders of all runs of a sweep, begun or not; none where there is no sweep that can be read."""
    told = read_object(Path(path) / FILE, []) if is_sweep(path) else {}
    runs = [run for row in _objects(told.get("rows")) for run in _objects(row.get("runs"))]
    return [Path(path) / str(run["folder"]) for run in runs if run.get("folder")]


def read_sweep(path: Path) -> tuple[SweepRecord, list[RunRecord]]:
    """The sweep in `path` and its runs, named "row, seed N"; StorageError where `sweep.json` is not whole."""
    problems: list[str] = []
    told = read_object(Path(path) / FILE, problems)
    if not told:
        raise StorageError(f"{Path(path) / FILE} holds no sweep that can be read; run `yonder sweep` again to write it")
    runs: list[RunRecord] = []
    rows = tuple(_row(Path(path), row, runs, problems) for row in _objects(told.get("rows")))
    table = _mapping(told.get("table"))
    cells = tuple(_cell(cell) for cell in _objects(table.get("cells")))
    names = (*_texts(table.get("benchmarks")), *(cell.benchmark for cell in cells))
    baseline = told.get("baseline")
    record = SweepRecord(
        path=Path(path),
        title=str(told.get("title") or Path(path).resolve().name),
        recipe=str(told.get("recipe") or ""),
        notes=_texts(told.get("notes")),
        rows=rows,
        baseline=baseline if isinstance(baseline, str) else None,
        benchmarks=tuple(dict.fromkeys(names)),
        cells=cells,
        problems=tuple(problems),
    )
    return record, runs


def _row(path: Path, row: Mapping[str, Any], runs: list[RunRecord], problems: list[str]) -> SweepRow:
    name = str(row.get("name") or "(no name)")
    found = [_run(path, name, run, runs, problems) for run in _objects(row.get("runs"))]
    return SweepRow(name, _texts(row.get("overrides")), tuple(found))


def _run(path: Path, name: str, run: Mapping[str, Any], runs: list[RunRecord], problems: list[str]) -> SweepRun:
    """Reads the run's folder, where there is one, to the end of `runs`."""
    seed, status = _whole(run.get("seed")), str(run.get("status") or "pending")
    place = None
    folder = path / str(run.get("folder") or "")
    try:
        if run.get("folder") and folder.exists():
            record = read_run(folder)
            place = len(runs)
            runs.append(replace(record, name=f"{name}, seed {'?' if seed is None else seed}"))
        elif status == "done":
            problems.append(f"{name}, seed {seed}: the folder {run.get('folder')} is missing.")
    except StorageError as error:
        if status != "pending":
            problems.append(f"{name}, seed {seed}: {error}.")
    return SweepRun(seed, status, str(run.get("error") or ""), place)


def _cell(cell: Mapping[str, Any]) -> SweepCell:
    pairs = [(found, _whole(seed)) for value, seed in _pairs(cell) if (found := number(value)) is not None]
    return SweepCell(
        row=str(cell.get("row") or ""),
        benchmark=str(cell.get("benchmark") or ""),
        checkpoint=str(cell.get("checkpoint") or ""),
        values=tuple(value for value, _ in pairs),
        seeds=tuple(seed for _, seed in pairs),
        mean=number(cell.get("mean")),
        std=number(cell.get("std")),
        low=number(cell.get("low")),
        high=number(cell.get("high")),
        n=_whole(cell.get("n")),
        difference=_difference(_mapping(cell.get("difference"))),
        warnings=_texts(cell.get("warnings")),
    )


def _pairs(cell: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """(value, seed): a value without a seed of its own has None."""
    values, seeds = cell.get("values"), cell.get("seeds")
    values, seeds = values if isinstance(values, list) else [], seeds if isinstance(seeds, list) else []
    return list(zip_longest(values, seeds[: len(values)]))


def _difference(value: Mapping[str, Any]) -> Difference | None:
    points = number(value.get("points"))
    if points is None:
        return None
    against = value.get("against")
    figures = number(value.get("low")), number(value.get("high")), number(value.get("p"))
    return Difference(points, *figures, against if isinstance(against, str) else None)


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value if str(item).strip()) if isinstance(value, list) else ()
