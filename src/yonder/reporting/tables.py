"""The results of runs as rows for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yonder.reporting.records import Accuracy, BenchmarkResult, RunRecord, Spread


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One checkpoint: a row of the results table."""

    run: str
    stage: str
    cells: dict[str, BenchmarkResult]  # benchmark -> result


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells, ready for rich, Markdown or HTML."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def run_labels(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """A short name for each run, made different where two directories are called alike."""
    names = [run.name for run in runs]
    labels: list[str] = []
    for index, name in enumerate(names):
        again = names[:index].count(name)
        labels.append(f"{name} ({again + 1})" if again else name)
    return tuple(labels)


def result_rows(runs: Sequence[RunRecord]) -> tuple[ResultRow, ...]:
    """One row for each checkpoint that was evaluated, in the runs' order."""
    return tuple(
        ResultRow(label, stage, cells)
        for label, run in zip(run_labels(runs), runs, strict=True)
        for stage, cells in run.results.items()
    )


def benchmarks_of(rows: Sequence[ResultRow]) -> tuple[str, ...]:
    """Benchmark names in order of first use."""
    return tuple(dict.fromkeys(name for row in rows for name in row.cells))


def results_table(runs: Sequence[RunRecord]) -> Table:
    """The results as text cells: accuracy in per cent, its 95 % interval, and the vote where there is one."""
    rows = result_rows(runs)
    benchmarks = benchmarks_of(rows)
    several = len(runs) > 1
    return Table(
        header=(*(("run",) if several else ()), "stage", *benchmarks),
        rows=tuple(
            (*((row.run,) if several else ()), row.stage, *(_cell(row.cells.get(name)) for name in benchmarks))
            for row in rows
        ),
    )


def to_markdown(table: Table) -> str:
    """A GitHub-style table; the last columns are numbers and stand right."""
    texts = [table.header, *table.rows]
    labels = sum(name in ("run", "stage") for name in table.header[:2])
    rule = [":---" if index < labels else "---:" for index in range(len(table.header))]
    lines = [[_markdown(cell) for cell in row] for row in texts]
    return "\n".join("| " + " | ".join(row) + " |" for row in [lines[0], rule, *lines[1:]]) + "\n"


def to_csv(runs: Sequence[RunRecord]) -> str:
    """Tidy and unrounded: one line for each run, stage, benchmark and way of decoding."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "stage", "benchmark", "decoding", "accuracy", "low", "high", "n"])
    for row in result_rows(runs):
        for benchmark, result in row.cells.items():
            for part, decoding, found in ways_of(result):
                figures = [found.value, found.low, found.high, found.n]
                name = f"{benchmark}, {part}" if part else benchmark
                writer.writerow([row.run, row.stage, name, decoding, *("" if x is None else x for x in figures)])
    return text.getvalue()


def ways_of(result: BenchmarkResult) -> list[tuple[str, str, Accuracy]]:
    """(subset or nothing, way of decoding, accuracy): everything that was measured on a benchmark, greedy first."""
    found = [("", "greedy", result.greedy)]
    if result.vote is not None:
        found.append(("", f"vote@{result.votes or '?'}", result.vote))
    found += [("", f"pass@{k}", accuracy) for k, accuracy in sorted(result.pass_at.items(), key=_as_number)]
    found += [("", f"sampled, seed {seed}", Accuracy(value)) for seed, value in result.seeds.items()]
    return found + [(name, "greedy", accuracy) for name, accuracy in result.subsets.items()]


def _as_number(item: tuple[str, Accuracy]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdigit() else 0, item[0])


def more_of(result: BenchmarkResult) -> list[dict[str, Any]]:
    """What stands below the greedy figure of a cell: vote, pass@k, subsets, instances, seeds; {label, accuracy...}."""
    lines = [
        {"label": part or decoding, "accuracy": found.value, "low": found.low, "high": found.high, "n": found.n}
        for part, decoding, found in ways_of(result)[1:]
        if not decoding.startswith("sampled")
    ]
    if result.seed_spread is not None:
        n = result.seed_spread.n or len(result.seeds)
        lines.append(_spread_line("sampled, one seed" if n == 1 else f"sampled, mean of {n} seeds", result.seed_spread))
    if result.spread is not None:
        lines.append(_spread_line(f"mean of {result.spread.n or len(result.groups)} instances", result.spread))
    return [{"note": "", **line} for line in lines]


def _spread_line(label: str, spread: Spread) -> dict[str, Any]:
    note = "" if spread.std is None else f"± {percent(spread.std)}"
    return {"label": label, "accuracy": spread.mean, "low": spread.low, "high": spread.high, "n": None, "note": note}


def result_facts(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """The rows as JSON-like data; `more` is what the page writes below the greedy figure."""
    facts: list[dict[str, Any]] = []
    for row in rows:
        cells = {
            name: {
                **_plain(result.greedy),
                "vote": None if result.vote is None else {**_plain(result.vote), "k": result.votes},
                "pass_at_k": {k: _plain(found) for k, found in result.pass_at.items()},
                "subsets": {subset: _plain(found) for subset, found in result.subsets.items()},
                "groups": {group: _plain(found) for group, found in result.groups.items()},
                "group_spread": None if result.spread is None else asdict(result.spread),
                "seeds": dict(result.seeds),
                "contamination": result.contamination,
                "cached": result.cached,
                "more": more_of(result),
            }
            for name, result in row.cells.items()
        }
        facts.append({"run": row.run, "stage": row.stage, "cells": cells})
    return facts


def contaminated(rows: Sequence[ResultRow]) -> list[dict[str, str]]:
    """Each benchmark whose questions meet training questions, with the sentence, once."""
    said = dict.fromkeys(
        (name, cell.contamination) for row in rows for name, cell in row.cells.items() if cell.contamination
    )
    return [{"benchmark": name, "text": text} for name, text in said]


def _plain(found: Accuracy) -> dict[str, Any]:
    return {"accuracy": found.value, "low": found.low, "high": found.high, "n": found.n}


def percent(value: float | None, digits: int = 1) -> str:
    """0.4123 -> 41.2; a dash where nothing was measured."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def interval_text(found: Accuracy) -> str:
    """The 95 % interval in per cent, or nothing."""
    return "" if found.low is None or found.high is None else f"{percent(found.low)}–{percent(found.high)}"


def duration(seconds: float | None) -> str:
    """4000 -> 1 h 07 min."""
    if seconds is None:
        return "–"
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _cell(result: BenchmarkResult | None) -> str:
    if result is None:
        return "–"
    others = (
        f"{part or decoding} {_figure(found)}"
        for part, decoding, found in ways_of(result)[1:]
        if not decoding.startswith("sampled")
    )
    return "; ".join([_figure(result.greedy), *others])


def _figure(found: Accuracy) -> str:
    interval = interval_text(found)
    return percent(found.value) + (f" [{interval}]" if interval else "")


def _markdown(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
