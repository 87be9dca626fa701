"""Measure a judge on a published benchmark: what `yonder judge-benchmark` does."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

from yonder.commands.scoring import Work, maker, record_of, scored_lines, shown
from yonder.core.judging import judge_value
from yonder.evaluation.judge_benchmarks.base import Benchmark, Item, Scored
from yonder.recipe.rewards import JudgeSettings
from yonder.rewards.judge import JudgeReward
from yonder.storage import write_json
from yonder.training.progress import Progress

Line = Mapping[str, Any]  # of the output: an item's id, group, kind and right, and `scores`, one a response


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

    An item whose scores are not enough (an unscored response; in ProcessBench one before the first refused) is left out
    of every figure and counted (`unscored_items`); `ties`: a right and a wrong response of an item with the same gap;
    `truncated`: responses that the judge read a part of.
    """
    delta = settings.delta or 0.5  # as in a judge check: 0 cuts nothing

    def accepts(gap: float) -> bool:
        return judge_value(gap, settings.tau, 0.0) >= delta

    read = [Scored(item, _gaps(line)) for item, line in zip(items, lines, strict=True)]
    scored = [one for one in read if benchmark.usable(one, accepts)]
    figures = benchmark.score(scored, accepts)
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


def _head(item: Item) -> dict[str, Any]:
    return {"id": item.id, "group": item.group, "kind": item.kind, "right": list(item.right)}


def _unscored(line: Line) -> int:
    return sum(score["value"] is None for score in line["scores"])


def _gaps(line: Line) -> tuple[float, ...]:
    """Of the responses before the first one without a score."""
    return tuple(score["logit_gap"] for score in takewhile(lambda score: score["value"] is not None, line["scores"]))


def _fingerprint(items: Sequence[Item]) -> str:
    """Tells whether an output is of these very items."""
    return hashlib.sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()
