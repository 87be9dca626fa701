"""Metrics by step as columns small enough to embed: long stages are averaged over neighbouring rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yonder.reporting.records import RunRecord, StageRecord, number

BUDGET = 110_000  # numbers in the page, all runs together; about 7 bytes each
_MOST, _FEWEST = 800, 60  # points of one curve
_AXES = ("step", "iteration", "time_s", "epoch")


def curves(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """For each stage with metrics: its axes and its series; `run` and `stage` are indices."""
    stages = [(r, s, stage) for r, run in enumerate(runs) for s, stage in enumerate(run.stages) if stage.metrics]
    keys = sum(len(_numeric_keys(stage)) for _, _, stage in stages)
    points = max(_FEWEST, min(_MOST, BUDGET // max(1, keys)))
    return [{"run": r, "stage": s, **stage_curves(stage, points)} for r, s, stage in stages]


def stage_curves(stage: StageRecord, points: int) -> dict[str, Any]:
    """Columns of one stage.

    `rows` is how many rows there were and `every` how many are averaged in one point. A series is {"y": [...]}, and has
    {"at": [...]} (its positions on the axes) where only some points have that key; null in `y`: nothing measured.
    """
    rows = stage.metrics
    every = max(1, -(-len(rows) // points))
    buckets = [rows[start : start + every] for start in range(0, len(rows), every)]
    axes = {axis: [_last(bucket, axis) for bucket in buckets] for axis in _AXES}
    axes["row"] = [min((index + 1) * every, len(rows)) for index in range(len(buckets))]
    return {
        "rows": len(rows),
        "every": every,
        "axes": {axis: values for axis, values in axes.items() if all(value is not None for value in values)},
        "series": {key: _series(buckets, key) for key in _numeric_keys(stage)},
        "time": {part: round(seconds, 2) for part, seconds in time_split(stage).items()},
    }


def time_split(stage: StageRecord) -> dict[str, float]:
    """Seconds spent on each part (`time/*_s`), summed over the rows."""
    totals: dict[str, float] = {}
    for row in stage.metrics:
        for key, value in row.items():
            seconds = number(value)
            if key.startswith("time/") and key.endswith("_s") and seconds is not None:
                part = key.removeprefix("time/").removesuffix("_s")
                totals[part] = totals.get(part, 0.0) + seconds
    return totals


def _numeric_keys(stage: StageRecord) -> tuple[str, ...]:
    """Keys that hold a number in at least one row, in order of first use, axes excepted."""
    keys = {key: None for row in stage.metrics for key, value in row.items() if number(value) is not None}
    return tuple(key for key in keys if key not in _AXES[:3])


def _series(buckets: Sequence[Sequence[Mapping[str, Any]]], key: str) -> dict[str, Any]:
    present = [(index, bucket) for index, bucket in enumerate(buckets) if any(key in row for row in bucket)]
    series: dict[str, Any] = {"y": [_mean(bucket, key) for _, bucket in present]}
    if len(present) < len(buckets):
        series["at"] = [index for index, _ in present]
    return series


def _mean(bucket: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [value for row in bucket if (value := number(row.get(key))) is not None]
    return float(f"{sum(values) / len(values):.5g}") if values else None


def _last(bucket: Sequence[Mapping[str, Any]], axis: str) -> float | None:
    values = [value for row in bucket if (value := number(row.get(axis))) is not None]
    return round(values[-1], 3) if values else None
