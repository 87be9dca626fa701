"""The table of a sweep: what its finished runs say, over seeds, and against the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yonder.core import spread
from yonder.core.statistics import mean_std
from yonder.evaluation.comparison import Verdicts, compare, read_rows
from yonder.reporting.redaction import redact
from yonder.storage import write_json
from yonder.sweeps.plan import Plan, Run, columns_of
from yonder.sweeps.settings import RowSettings
from yonder.sweeps.state import read_state, state_of


@dataclass(frozen=True, slots=True)
class Found:
    """What one run says of one checkpoint on one benchmark."""

    accuracy: float | None
    low: float
    high: float
    correct: Verdicts  # a question each, in the benchmark's order; None: unscored
    questions: str | None = None  # the hash of what was asked
    warning: str = ""  # which of the questions it was trained on


@dataclass(frozen=True, slots=True)
class Key:
    """A cell's place."""

    row: str
    checkpoint: str
    column: str


Results = dict[Key, dict[int, Found]]  # by seed
OTHERS = "answered other questions than the baseline, so there is no difference question by question"


def collect(plan: Plan, states: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`sweep.json`: every run with its state, and the table of those that are done. `states`: by the runs' names, where
    they are known."""
    states = states or {run.name: state_of(run) for run in plan.runs}
    done = [run for run in plan.runs if states[run.name] == "done"]
    results = read_results(plan, done)
    columns = list(plan.sweep.benchmarks) or list(dict.fromkeys(key.column for key in results))
    rows = {row.name: row for row in plan.rows}
    cells = [
        cell(key, found, _baseline(plan, rows[key.row], key, results), _against(plan, rows[key.row]))
        for key, found in sorted(results.items(), key=lambda item: columns.index(item[0].column))
    ]
    order = {row.name: i for i, row in enumerate(plan.rows)}
    cells.sort(key=lambda found: order[found["row"]])
    return redact(
        {
            "format": 1,
            "title": plan.sweep.title,
            "recipe": plan.sweep.recipe,
            "notes": list(plan.sweep.notes),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": [_row(plan, row, states) for row in plan.rows],
            "baseline": plan.sweep.baseline,
            "table": {"benchmarks": columns, "cells": cells},
        }
    )


def write_sweep(plan: Plan, states: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write `sweep.json` and return it."""
    found = collect(plan, states)
    write_json(plan.folder / "sweep.json", found)
    return found


def read_results(plan: Plan, runs: Sequence[Run]) -> Results:
    """What the finished runs left in `evaluations.jsonl`."""
    results: Results = {}
    for run in runs:
        records = read_rows(run.folder)
        benchmarks = list(dict.fromkeys(record["benchmark"] for record in records))
        for column, benchmark in columns_of(plan.sweep, run.row, benchmarks).items():
            for record in records:
                figures = record.get("vote") if run.row.figure == "vote" else record
                if record["benchmark"] == benchmark and figures:
                    key = Key(run.row.name, record["stage"], column)
                    results.setdefault(key, {})[run.seed] = _found(figures, record)
    return results


def cell(
    key: Key, found: Mapping[int, Found], baseline: Mapping[int, Found] | None, against: str | None = None
) -> dict[str, Any]:
    """One cell. See docs/sweeps.md for what the numbers are; `warnings`: what a reader of them must know; `against`:
    the row that `baseline` is of."""
    seeds = sorted(seed for seed in found if found[seed].accuracy is not None)
    values = [found[seed].accuracy or 0.0 for seed in seeds]
    mean, std, _ = mean_std(values)
    interval: tuple[float | None, float | None] = (None, None)
    if len(seeds) == 1:
        interval = (found[seeds[0]].low, found[seeds[0]].high)
    elif seeds:
        interval = _interval([found[seed] for seed in seeds], mean or 0.0)
    asked = {seed: found[seed].questions for seed in seeds}
    others = any(seed in asked and asked[seed] != base.questions for seed, base in (baseline or {}).items())
    warnings = [found[seed].warning for seed in seeds] + ([OTHERS] if others else [])
    difference = None if baseline is None else paired(found, baseline)
    questions = {len(found[seed].correct) - found[seed].correct.count(None) for seed in seeds}
    return {
        "row": key.row,
        "benchmark": key.column,
        "checkpoint": key.checkpoint,
        "values": values,
        "seeds": seeds,
        "mean": mean,
        "std": std,
        "low": interval[0],
        "high": interval[1],
        "n": min(questions, default=0),
        "same_questions": _crossed([found[seed] for seed in seeds]),
        "difference": None if difference is None else difference | {"against": against},
        "warnings": list(dict.fromkeys(filter(None, warnings))),
    }


def paired(found: Mapping[int, Found], baseline: Mapping[int, Found]) -> dict[str, Any] | None:
    """The mean difference in points over the seeds in which both answered the same questions, question by question;
    None without any."""
    seeds = sorted(seed for seed in found.keys() & baseline.keys() if _comparable(found[seed], baseline[seed]))
    sides = [(found[seed], baseline[seed]) for seed in seeds]
    each = [compare(base.correct, mine.correct) for mine, base in sides]
    if not each or not min(one.a.n for one in each):
        return None
    if len(each) == 1:  # as `yonder compare` says it
        found_once = each[0].difference
        estimate = spread.Estimate(found_once.value, found_once.low, found_once.high, each[0].p)
        n = each[0].a.n
    else:
        pairs = [_both(mine.correct, base.correct) for mine, base in sides]
        crossed = _crossed([mine for mine, _ in sides])
        if crossed:
            tables = _scored([side.correct for pair in sides for side in pair])
            pairs = [(tables[2 * i], tables[2 * i + 1]) for i in range(len(seeds))]
        differences = [[float(a) - float(b) for a, b in zip(*pair, strict=True)] for pair in pairs]
        estimate, n = spread.difference(differences, crossed), min(map(len, differences))
    if estimate is None:
        return None
    return {
        "points": 100 * estimate.value,
        "low": 100 * estimate.low,
        "high": 100 * estimate.high,
        "p": estimate.p,
        "seeds": seeds,
        "n": n,
        "p_by_seed": [one.p for one in each],
    }


def _interval(sides: Sequence[Found], mean: float) -> tuple[float | None, float | None]:
    """Over seeds and questions, around the mean of the seeds' accuracies."""
    crossed, verdicts = _crossed(sides), [side.correct for side in sides]
    tables = _scored(verdicts) if crossed else [[x for x in side if x is not None] for side in verdicts]
    if not all(tables):
        return None, None
    found = spread.share([[float(x) for x in row] for row in tables], crossed)
    return max(0.0, found.low - found.value + mean), min(1.0, found.high - found.value + mean)


def _crossed(sides: Sequence[Found]) -> bool:
    """Whether all seeds have the same questions; seeds that draw a limit or a development split do not."""
    asked = {side.questions for side in sides}
    return len(asked) == 1 and None not in asked


def _scored(sides: Sequence[Verdicts]) -> list[list[bool]]:
    """Answers to the same questions, without those that are unscored anywhere."""
    kept = [column for column in zip(*sides, strict=True) if None not in column]
    return [[bool(column[i]) for column in kept] for i in range(len(sides))]


def _both(one: Verdicts, other: Verdicts) -> tuple[list[bool], list[bool]]:
    kept = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return [a for a, _ in kept], [b for _, b in kept]


def _comparable(one: Found, other: Found) -> bool:
    scored = one.accuracy is not None and other.accuracy is not None
    return scored and one.questions == other.questions and len(one.correct) == len(other.correct)


def _found(figures: Mapping[str, Any], record: Mapping[str, Any]) -> Found:
    """`figures`: of the record, or of its vote."""
    warning = str((record.get("contamination") or {}).get("note") or "")
    accuracy, low, high = figures["accuracy"], float(figures["low"]), float(figures["high"])
    return Found(accuracy, low, high, tuple(figures["correct"]), record.get("questions"), warning)


def _against(plan: Plan, row: RowSettings) -> str | None:
    """The row that a row is compared with."""
    name = row.baseline or plan.sweep.baseline
    return None if name == row.name else name


def _baseline(plan: Plan, row: RowSettings, key: Key, results: Results) -> Mapping[int, Found] | None:
    """What a cell is compared with: the baseline's cell of the same checkpoint, or of the one that it shows."""
    name = _against(plan, row)
    if name is None:
        return None
    same = results.get(Key(name, key.checkpoint, key.column))
    shown = [found for other, found in results.items() if (other.row, other.column) == (name, key.column)]
    return same or (shown[0] if len(shown) == 1 else None)


def _row(plan: Plan, row: RowSettings, states: Mapping[str, str]) -> dict[str, Any]:
    runs = [
        {
            "seed": run.seed,
            "folder": str(Path(run.folder).relative_to(plan.folder)),
            "status": states[run.name],
            "error": read_state(run.folder).get("error") if states[run.name] == "failed" else None,
        }
        for run in plan.of(row)
    ]
    overrides = [text for text in plan.of(row)[0].overrides if not text.startswith(("seed=", "output_dir="))]
    more = {"recipe": row.recipe} if row.recipe else {}
    more |= {"figure": row.figure} if row.figure != "accuracy" else {}
    more |= {"baseline": row.baseline} if row.baseline else {}
    more |= {"reported": dict(row.reported)} if row.reported else {}
    return {"name": row.name, "overrides": overrides, "runs": runs} | more
