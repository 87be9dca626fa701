"""Measure a judge on a published benchmark: what `yonder judge-benchmark` does."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from yonder.core.judging import judge_value
from yonder.data.columns import Row
from yonder.data.files import read_rows
from yonder.data.hub import load_rows
from yonder.errors import DataError, RecipeError
from yonder.evaluation.judge_benchmarks import BENCHMARKS
from yonder.evaluation.judge_benchmarks.base import Benchmark, Item, Scored, check_columns
from yonder.recipe.rewards import JudgeSettings
from yonder.rewards.judge import JudgeReward
from yonder.scoring import Work, maker, record_of, scored_lines, shown
from yonder.storage import write_json
from yonder.training.progress import Progress

Line = Mapping[str, Any]  # of the output: an item's id, group, kind and right, and `scores`, one a response


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of this name; RecipeError with the names there are."""
    if name not in BENCHMARKS:
        raise RecipeError(f"there is no judge benchmark `{name}`; choose one of: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def read_items(benchmark: Benchmark, file: Path | None, split: str | None, limit: int | None) -> list[Item]:
    """The items of a file, of a folder with a downloaded copy, or of the hub; at most `limit` of each group.

    DataError names the file, line and column that cannot be used; also for a split that the benchmark does not have.
    """
    if split is not None and split not in benchmark.splits:
        raise DataError(f"{benchmark.title} has no split `{split}`; it has {', '.join(benchmark.splits)}")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: give 1 or more items of each group")
    if file is not None and not file.is_dir():
        if split is not None:
            raise DataError(f"--split {split} is of the hub; a file is read whole, so leave it out")
        source, rows = str(file), read_rows(file)
    else:
        source, rows = _from_hub(benchmark, file, [split] if split else benchmark.default)
    check_columns(rows, benchmark.columns, source, benchmark.title)
    items = [benchmark.read(row) for row in rows]
    _check_pairs(rows, items)
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.group, item.kind), []).append(item)
    return [item for group in groups.values() for item in islice(group, limit)]


def run_benchmark(
    benchmark: Benchmark, items: Sequence[Item], settings: JudgeSettings, output: Path, progress: Progress
) -> dict[str, Any]:
    """Write every item's scores to `output`; returns the summary. What an interrupted call wrote is kept."""

    def lines(judge: JudgeReward, start: int, stop: int) -> list[dict[str, Any]]:
        chunk = items[start:stop]
        scores = iter(judge.score([(item.question, response) for item in chunk for response in item.responses]))
        return [_head(item) | {"scores": [shown(next(scores)) for _ in item.responses]} for item in chunk]

    made_by = maker(settings, benchmark=benchmark.title, items=_fingerprint(items))
    work = Work([_head(item) for item in items], lines, _unscored)
    found = scored_lines(work, settings, output, made_by, progress)
    summary = summarise(benchmark, items, found, settings) | {"output": str(output)}
    write_json(record_of(output), {"made_by": made_by, "summary": summary})
    return summary


def summarise(
    benchmark: Benchmark, items: Sequence[Item], lines: Sequence[Line], settings: JudgeSettings
) -> dict[str, Any]:
    """The figures with their intervals, and what stands behind them.

    An item with an unscored response is left out of every figure and counted (`unscored_items`); `ties`: comparisons of
    a right with a wrong response of the same gap; `truncated`: responses that the judge read a part of.
    """
    scored = [
        Scored(item, tuple(score["logit_gap"] for score in line["scores"]))
        for item, line in zip(items, lines, strict=True)
        if not _unscored(line)
    ]
    delta = settings.delta or 0.5  # as in a judge check: 0 cuts nothing
    figures = benchmark.score(scored, lambda gap: judge_value(gap, settings.tau, 0.0) >= delta)
    every = [score for line in lines for score in line["scores"]]
    reasons = Counter(score["reason"] for score in every if score["value"] is None)
    return {
        "benchmark": benchmark.title,
        "note": benchmark.note,
        "figures": {name: None if found is None else asdict(found) for name, found in figures.items()},
        "items": len(items),
        "unscored_items": len(items) - len(scored),
        "responses": len(every),
        "unscored": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "truncated": sum(bool(score["truncated"]) for score in every if score["value"] is not None),
        "ties": sum(right == wrong for one in scored for right in one.of(True) for wrong in one.of(False)),
    }


def _from_hub(benchmark: Benchmark, folder: Path | None, splits: Sequence[str]) -> tuple[str, list[Row]]:
    source = f"hub:{benchmark.repository}" if folder is None else str(folder)
    options = {} if folder is None else {"path": str(folder)}
    local = "give the file or the folder as --file"
    return source, [
        Row(f"{source}, split {split}, row {number}", row)
        for split in splits
        for number, row in enumerate(load_rows(source, benchmark.repository, None, split, options, local))
    ]


def _check_pairs(rows: Sequence[Row], items: Sequence[Item]) -> None:
    """Items of a kind are matched by id, so an id may occur once."""
    seen: set[str] = set()
    for row, item in zip(rows, items, strict=True):
        if item.kind and item.id in seen:
            raise DataError(f"{row.where}: the id {item.id!r} occurs a second time; delete one of the rows")
        seen |= {item.id} if item.kind else set()


def _head(item: Item) -> dict[str, Any]:
    return {"id": item.id, "group": item.group, "kind": item.kind, "right": list(item.right)}


def _unscored(line: Line) -> int:
    return sum(score["value"] is None for score in line["scores"])


def _fingerprint(items: Sequence[Item]) -> str:
    """Tells whether an output is of these very items."""
    return hashlib.sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()
