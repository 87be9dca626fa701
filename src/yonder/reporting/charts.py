"""Figures that need no script: places on a track, in per cent of its width, drawn with CSS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yonder.reporting.records import Accuracy, BenchmarkResult
from yonder.reporting.tables import ResultRow, interval_text, percent, ways_of

_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def interval_chart(rows: Sequence[ResultRow], benchmark: str) -> dict[str, Any]:
    """Dots with their intervals, one line for each row and way of decoding, on one scale with round ticks."""
    lines: list[tuple[ResultRow, str, Accuracy]] = []
    for row in rows:
        result = row.cells.get(benchmark)
        if result is not None:
            lines.append((row, "greedy", result.greedy))
            lines += [
                (row, part or decoding, found)
                for part, decoding, found in ways_of(result)[1:]
                if not decoding.startswith("sampled")
            ]
    ends = [end for _, _, found in lines for end in (found.low, found.high, found.value) if end is not None]
    low, high, ticks = scale(min(ends, default=0.0), max(ends, default=1.0))

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    best = max((found.value for _, way, found in lines if way == "greedy"), default=None)
    return {
        "benchmark": benchmark,
        "ticks": [
            {"at": place(tick), "label": percent(tick, 0 if ticks[1] - ticks[0] >= 0.01 else 1)} for tick in ticks
        ],
        "first": place(lines[0][2].value) if lines else None,
        "lines": [
            {
                "run": row.run,
                "stage": row.stage,
                "way": way,
                "first_of_row": way == "greedy",
                "best": way == "greedy" and found.value == best,
                "dot": place(found.value),
                "from": None if found.low is None else place(found.low),
                "width": None if found.low is None or found.high is None else place(found.high) - place(found.low),
                "text": percent(found.value),
                "interval": interval_text(found),
            }
            for row, way, found in lines
        ],
    }


def scale(low: float, high: float) -> tuple[float, float, tuple[float, ...]]:
    """A range of shares that holds both, within 0 and 1, that begins and ends at a round tick; four to eight ticks."""
    low, high = max(0.0, min(low, high)), min(1.0, max(low, high))
    step = next((step for step in _STEPS if (high - low) / step <= 6), _STEPS[-1])
    first, last = int(low / step + 1e-9), int(-(-high // step))
    first, last = max(0, first - (low - first * step < 0.1 * step)), last + (last * step - high < 0.1 * step)
    while last * step > 1 + 1e-9:
        last -= 1
    ticks = tuple(round(index * step, 6) for index in range(first, last + 1))
    return ticks[0], ticks[-1], ticks


def category_table(rows: Sequence[ResultRow], benchmark: str) -> dict[str, Any] | None:
    """Accuracy of every row in every category, the largest categories first; None where there are no categories."""
    return _parts(rows, benchmark, "category", lambda result: result.categories or {})


def group_table(rows: Sequence[ResultRow], benchmark: str) -> dict[str, Any] | None:
    """The same for the instances of a benchmark."""
    return _parts(rows, benchmark, "instance", lambda result: result.groups)


def _parts(
    rows: Sequence[ResultRow], benchmark: str, by: str, parts: Callable[[BenchmarkResult], Mapping[str, Accuracy]]
) -> dict[str, Any] | None:
    have = [(row, found) for row in rows if benchmark in row.cells and (found := parts(row.cells[benchmark]))]
    sizes: dict[str, int] = {}
    for _, found in have:
        for name, accuracy in found.items():
            sizes[name] = max(sizes.get(name, 0), accuracy.n or 0)
    if not sizes:
        return None
    names = sorted(sizes, key=lambda name: (-sizes[name], not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return {
        "benchmark": benchmark,
        "by": by,
        "rows": [f"{row.stage}" for row, _ in have],
        "runs": [row.run for row, _ in have],
        "lines": [
            {"name": name or "(none)", "n": sizes[name], "cells": [_part(found.get(name)) for _, found in have]}
            for name in names
        ],
    }


def _part(found: Accuracy | None) -> dict[str, Any]:
    return {"text": percent(found.value if found else None), "width": round(100 * found.value, 1) if found else 0}
