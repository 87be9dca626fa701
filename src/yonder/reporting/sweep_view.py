"""What the page says and draws of a sweep: a verdict in a sentence, the table, a chart of rows with seeds as points."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from yonder.reporting.charts import scale
from yonder.reporting.sweeps import Difference, SweepCell, SweepRecord
from yonder.reporting.tables import Table, percent, to_markdown
from yonder.reporting.verdict import Notice

_SHOWS = re.compile(r"stages\.[\w-]+\.(checkpoints|benchmarks)=")  # which rows are evaluated: the sweep's own doing
Line = tuple[str, str, dict[str, SweepCell]]  # row, checkpoint, benchmark -> cell


def sweep_facts(sweep: SweepRecord) -> dict[str, Any]:
    """The sweep as JSON-like data: its rows and runs, the main table, the other checkpoints, charts, table as text."""
    main, others = lines_of(sweep)
    counts = [run.status for row in sweep.rows for run in row.runs]
    return {
        "title": sweep.title,
        "recipe": sweep.recipe,
        "notes": list(sweep.notes),
        "baseline": sweep.baseline,
        "common": _common(sweep),
        "rows": [asdict(row) for row in sweep.rows],
        "benchmarks": list(sweep.benchmarks),
        "done": counts.count("done"),
        "total": len(counts),
        "table": [_line(sweep, line, main) for line in main],
        "warnings": sweep_warnings(sweep),
        "others": [_line(sweep, line, others) for line in others],
        "charts": [sweep_chart(sweep, main, name) for name in sweep.benchmarks],
        "markdown": to_markdown(_text_table(sweep, [*main, *others])),
        "csv": _csv(sweep),
    }


def lines_of(sweep: SweepRecord) -> tuple[list[Line], list[Line]]:
    """(one line for each row with the last checkpoint that was measured, the lines of the other checkpoints)."""
    main: list[Line] = []
    others: list[Line] = []
    for name in dict.fromkeys([*(row.name for row in sweep.rows), *(cell.row for cell in sweep.cells)]):
        of_row = [cell for cell in sweep.cells if cell.row == name]
        checkpoints = list(dict.fromkeys(cell.checkpoint for cell in of_row))
        for checkpoint in checkpoints:
            found = {cell.benchmark: cell for cell in of_row if cell.checkpoint == checkpoint}
            (main if checkpoint == checkpoints[-1] else others).append((name, checkpoint, found))
        if not checkpoints:
            main.append((name, "", {}))
    return main, others


def sweep_verdicts(sweep: SweepRecord) -> list[dict[str, Any]]:
    """For each benchmark the best row against the baseline (or, without one, against the first row)."""
    main, _ = lines_of(sweep)
    found = (_verdict(sweep, main, name) for name in sweep.benchmarks)
    return [verdict for verdict in found if verdict is not None]


def sweep_notices(sweep: SweepRecord) -> Iterator[Notice]:
    """Runs that failed, that are not finished, and folders that could not be read."""
    for row in sweep.rows:
        for run in row.runs:
            where = f"{row.name}, seed {'?' if run.seed is None else run.seed}"
            if run.status == "failed":
                yield Notice("stop", where, f"This run failed: {run.error or 'no reason was written down'}.")
            elif run.status != "done":
                yield Notice("warn", where, f"This run is {run.status}; the table is without it.")
    for problem in sweep.problems:
        yield Notice("note", "sweep", problem)


def sweep_warnings(sweep: SweepRecord) -> list[dict[str, Any]]:
    """What a reader of a benchmark's numbers must know, each once, with the rows that it is about."""
    rows: dict[tuple[str, str], list[str]] = {}
    for cell in sweep.cells:
        for text in cell.warnings:
            rows.setdefault((cell.benchmark, text), []).append(cell.row)
    return [
        {"benchmark": benchmark, "rows": list(dict.fromkeys(names)), "text": text}
        for (benchmark, text), names in rows.items()
    ]


def sweep_chart(sweep: SweepRecord, lines: Sequence[Line], benchmark: str) -> dict[str, Any]:
    """A track for each row: its seeds as points, their mean, the mean's interval; places in per cent of the width."""
    have = [(row, cells[benchmark]) for row, _, cells in lines if benchmark in cells]
    ends = [end for _, cell in have for end in (*cell.values, cell.low, cell.high, cell.mean) if end is not None]
    low, high, ticks = scale(min(ends, default=0.0), max(ends, default=1.0))

    def place(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)

    base = next((cell.mean for row, cell in have if row == sweep.baseline), None)
    return {
        "benchmark": benchmark,
        "ticks": [
            {"at": place(tick), "label": percent(tick, 0 if ticks[1] - ticks[0] >= 0.01 else 1)} for tick in ticks
        ],
        "first": None if base is None else place(base),
        "lines": [
            {
                "row": row,
                "colour": _colour(sweep, row),
                "best": cell.mean is not None and cell.mean == _best(lines, benchmark),
                "mean": None if cell.mean is None else place(cell.mean),
                "from": None if cell.low is None else place(cell.low),
                "width": None
                if cell.low is None or cell.high is None
                else round(place(cell.high) - place(cell.low), 2),
                "dots": [
                    {"at": place(value), "seed": seed, "text": percent(value)}
                    for value, seed in zip(cell.values, cell.seeds, strict=True)
                ],
                "text": percent(cell.mean),
            }
            for row, cell in have
        ],
    }


def difference_text(difference: Difference) -> str:
    """+3.1 points (0.4 to 5.8), p = 0.02."""
    said = f"{difference.points:+.1f} points"
    if difference.low is not None and difference.high is not None:
        said += f" ({difference.low:+.1f} to {difference.high:+.1f})"
    return said + p_text(difference.p)


def unbroken(text: str) -> str:
    """The text of a difference that breaks between its parts only: value, interval, p."""
    return re.sub(r"(?<=\d) (?=points|to [+-])|(?<=\d to) (?=[+-])|(?<=\bp) (?=[<=])|(?<=[<=]) ", "\u00a0", text)


def p_text(p: float | None) -> str:
    """, p = 0.034; nothing where there is none."""
    if p is None:
        return ""
    return ", p < 0.001" if p < 0.001 else f", p = {p:.2g}"


def _line(sweep: SweepRecord, line: Line, lines: Sequence[Line]) -> dict[str, Any]:
    row, checkpoint, cells = line
    mine = next((found.overrides for found in sweep.rows if found.name == row), ())
    common = _common(sweep)
    return {
        "row": row,
        "checkpoint": checkpoint,
        "overrides": [text for text in mine if text not in common and not _SHOWS.match(text)],
        "baseline": row == sweep.baseline,
        "colour": _colour(sweep, row),
        "cells": {
            name: {
                **asdict(cell),
                "best": cell.mean is not None and cell.mean == _best(lines, name) and len(lines) > 1,
                "said": None if cell.difference is None else _said(sweep, cell.difference),
                "clear": cell.difference is not None and _clear(cell.difference),
            }
            for name, cell in cells.items()
        },
    }


def _said(sweep: SweepRecord, difference: Difference) -> str:
    """With the row that it is to, where that is not the sweep's baseline."""
    against = difference.against
    return difference_text(difference) + (f", against {against}" if against not in (None, sweep.baseline) else "")


def _common(sweep: SweepRecord) -> list[str]:
    """What every one of several rows changes in the recipe."""
    first, *others = [row.overrides for row in sweep.rows] or [()]
    return [text for text in first if others and all(text in more for more in others) and not _SHOWS.match(text)]


def _verdict(sweep: SweepRecord, lines: Sequence[Line], benchmark: str) -> dict[str, Any] | None:
    have = [(row, cells[benchmark]) for row, _, cells in lines if benchmark in cells]
    have = [(row, cell) for row, cell in have if cell.mean is not None]
    if not have:
        return None
    most = max(len(cell.values) for _, cell in have)
    whole = [pair for pair in have if len(pair[1].values) == most]  # fewer seeds: a mean that varies more
    best_row, best = max(whole, key=lambda pair: pair[1].mean or 0.0)
    base_row, base = next((pair for pair in have if pair[0] == sweep.baseline), have[0])
    if best.difference is not None and best.difference.against not in (None, base_row):
        best = replace(best, difference=None)  # it is to another row than the sentence names
    points = best.difference.points if best.difference else 100 * ((best.mean or 0.0) - (base.mean or 0.0))
    return {
        "benchmark": benchmark,
        "row": best_row,
        "checkpoint": best.checkpoint,
        "mean": best.mean,
        "baseline": base_row,
        "points": points,
        "clear": best.difference is not None and _clear(best.difference),
        "sentence": _sentence(sweep, benchmark, (best_row, best), (base_row, base), len(have), len(whole)),
    }


def _sentence(
    sweep: SweepRecord, benchmark: str, best: tuple[str, SweepCell], base: tuple[str, SweepCell], rows: int, whole: int
) -> str:
    """`whole`: how many of the rows have all seeds, which alone can be the best."""
    name = "the baseline" if base[0] == sweep.baseline else "the first row"
    seeds = len(best[1].values)
    reached = (
        f"{percent(best[1].mean)} % (mean of {seeds} seeds" if seeds > 1 else f"{percent(best[1].mean)} % (one seed"
    )
    if best[1].low is not None and best[1].high is not None:
        reached += f", 95 % interval {percent(best[1].low)}–{percent(best[1].high)}"
    reached += ")"
    if rows == 1:
        return f"{best[0]} reaches {reached} on {benchmark}; there is no other row to compare it with."
    if best[0] == base[0]:
        return f"No row is better than {name}, {base[0]}, on {benchmark}: it has {reached}."
    of = f" of the {whole} rows with {seeds} seeds" if whole < rows else ""
    said = f"{best[0]} is best{of} on {benchmark} with {reached}; {name}, {base[0]}, has {percent(base[1].mean)} %."
    difference = best[1].difference
    if difference is None:
        return said
    if difference.low is None or difference.high is None:
        return f"{said} The paired difference is {difference_text(difference)}."
    word = "excludes" if _clear(difference) else "includes"
    hint = "" if _clear(difference) else ", so the difference may be chance"
    return f"{said} The paired difference is {difference_text(difference)}: its interval {word} zero{hint}."


def _clear(difference: Difference) -> bool:
    """Does the interval of the difference leave out zero?"""
    return (difference.low is not None and difference.low > 0) or (difference.high is not None and difference.high < 0)


def _best(lines: Sequence[Line], benchmark: str) -> float | None:
    return max(
        (mean for _, _, cells in lines if benchmark in cells and (mean := cells[benchmark].mean) is not None),
        default=None,
    )


def _colour(sweep: SweepRecord, row: str) -> int:
    return next((at for at, found in enumerate(sweep.rows) if found.name == row), 0)


def _text_table(sweep: SweepRecord, lines: Sequence[Line]) -> Table:
    several = len({checkpoint for _, checkpoint, _ in lines}) > 1
    return Table(
        ("row", *(("stage",) if several else ()), *sweep.benchmarks),
        tuple(
            (
                row,
                *((checkpoint,) if several else ()),
                *(_text(cells[name]) if name in cells else "–" for name in sweep.benchmarks),
            )
            for row, checkpoint, cells in lines
        ),
    )


def _text(cell: SweepCell) -> str:
    said = percent(cell.mean) + ("" if cell.std is None else f" ± {percent(cell.std)}")
    return said + ("" if cell.difference is None else f" ({difference_text(cell.difference)})")


def _csv(sweep: SweepRecord) -> str:
    """Tidy and unrounded: one line for each row, checkpoint, benchmark and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "stage", "benchmark", "seed", "accuracy"])
    for cell in sweep.cells:
        for value, seed in zip(cell.values, cell.seeds, strict=True):
            writer.writerow([cell.row, cell.checkpoint, cell.benchmark, "" if seed is None else seed, value])
    return text.getvalue()
