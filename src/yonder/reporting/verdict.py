"""What a reader should know first: which stage is best, by how much, and what went wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yonder.core.statistics import paired_difference
from yonder.reporting.judge_view import admission
from yonder.reporting.records import Accuracy, BenchmarkResult, RunRecord, StageRecord, number
from yonder.reporting.tables import (
    ResultRow,
    benchmarks_of,
    contaminated,
    interval_text,
    percent,
    result_rows,
    run_labels,
)

_GAP_GROWTH = 0.25  # of a whole stage, without a test: more than the monitor's own limit
MOST_CHANGES = 6  # told in a sentence
FINISHED = ("done", "skipped", "cached", "shared")
ASKED = ("Stopped", "Interrupted", "KeyboardInterrupt")  # errors by which the user ends a stage
StageKey = tuple[str, str, str]  # of a stage that runs share, see `StageRecord.made`
_UNSCORED = 0.5  # the recipe's default for monitor.max_unscored


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best row of one benchmark against the first row."""

    benchmark: str
    run: str
    stage: str
    best: Accuracy
    first_run: str
    first_stage: str
    first: Accuracy
    points: float  # difference in percentage points
    difference: tuple[float, float, float] | None  # points and 95 % interval on the same questions, where they are
    overlap: bool | None  # do the two 95 % intervals overlap? None: not both known, or the same row
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to look at, with its weight: "stop" is worse than "warn", "note" is only said."""

    level: str
    where: str
    message: str

    def to_json(self) -> dict[str, str]:
        """A plain dictionary."""
        return asdict(self)


def verdicts(runs: Sequence[RunRecord]) -> tuple[Verdict, ...]:
    """One verdict for each benchmark, in the table's order."""
    rows = result_rows(runs)
    found = (_verdict(rows, name, len(runs) > 1) for name in benchmarks_of(rows))
    return tuple(verdict for verdict in found if verdict is not None)


def notices(runs: Sequence[RunRecord]) -> tuple[Notice, ...]:
    """Alarms that the runs recorded and those that their figures give rise to, the gravest first."""
    shared = Counter(stage.made for run in runs for stage in run.stages if stage.made is not None)
    told: set[StageKey] = set()
    found = [
        notice
        for label, run in zip(run_labels(runs), runs, strict=True)
        for notice in _run_notices(run, f"{label} · " if len(runs) > 1 else "", shared, told)
    ]
    for one in contaminated(result_rows(runs)):
        level = "note" if one["text"].startswith("close") else "warn"
        found.append(Notice(level, one["benchmark"], f"{one['text']}."))
    order = {"stop": 0, "warn": 1, "note": 2}
    return tuple(sorted(dict.fromkeys(found), key=lambda notice: order.get(notice.level, 1)))


def _verdict(rows: Sequence[ResultRow], benchmark: str, several: bool) -> Verdict | None:
    have = [(row, row.cells[benchmark]) for row in rows if benchmark in row.cells]
    if not have:
        return None
    (first_row, first_cell), (best_row, best_cell) = have[0], max(have, key=lambda pair: pair[1].greedy.value)
    first, best = first_cell.greedy, best_cell.greedy
    difference = None if best_row is first_row else _paired(first_cell, best_cell)
    overlap = None
    if best_row is not first_row and None not in (best.low, first.high):
        overlap = (best.low or 0.0) <= (first.high or 0.0)

    def name(row: ResultRow) -> str:
        return f"{row.stage} ({row.run})" if several else row.stage

    return Verdict(
        benchmark=benchmark,
        run=best_row.run,
        stage=best_row.stage,
        best=best,
        first_run=first_row.run,
        first_stage=first_row.stage,
        first=first,
        points=100 * (best.value - first.value),
        difference=difference,
        overlap=overlap,
        sentence=_sentence(
            benchmark, (name(best_row), best), (name(first_row), first), len(have), _certainty(difference, overlap)
        ),
    )


def _paired(first: BenchmarkResult, best: BenchmarkResult) -> tuple[float, float, float] | None:
    """The difference in points and its 95 % interval, on the questions scored for both; None where they were asked
    others."""
    if not first.questions or first.questions != best.questions or len(first.correct) != len(best.correct):
        return None
    both = [(bool(a), bool(b)) for a, b in zip(first.correct, best.correct, strict=True) if None not in (a, b)]
    if not both:
        return None
    found = paired_difference([a for a, _ in both], [b for _, b in both])
    return 100 * found.value, 100 * found.low, 100 * found.high


def _sentence(
    benchmark: str, best: tuple[str, Accuracy], first: tuple[str, Accuracy], rows: int, certainty: str
) -> str:
    interval = interval_text(best[1])
    reached = f"{percent(best[1].value)} %" + (f" (95 % interval {interval})" if interval else "")
    if rows == 1:
        return f"{best[0]} reaches {reached} on {benchmark}; there is no other row to compare it with."
    if best == first:
        return f"No stage is better than the first row on {benchmark}: {first[0]} has {reached}."
    points = 100 * (best[1].value - first[1].value)
    above = f"{points:.1f} points above {first[0]} ({percent(first[1].value)} %)"
    return f"{best[0]} is best on {benchmark} with {reached}, {above}{certainty}."


def _certainty(difference: tuple[float, float, float] | None, overlap: bool | None) -> str:
    """The end of the sentence: what the paired interval says, or the two intervals where it is not known."""
    if difference is not None:
        points, low, high = difference
        chance = ", so it may be chance" if low <= 0 else ""
        return f"; question by question the difference is {points:+.1f} points ({low:.1f} to {high:.1f}){chance}"
    if overlap is None:
        return ""
    return (
        "; the two intervals overlap, so the difference may be chance"
        if overlap
        else "; the two intervals do not overlap"
    )


def _run_notices(run: RunRecord, prefix: str, shared: Counter[StageKey], told: set[StageKey]) -> Iterator[Notice]:
    """`shared`: runs by what they have of the same stage, which is told of the first one; `told`: those before."""
    for stage in run.stages:
        if stage.made in told:
            continue
        others = 0
        if stage.made is not None:
            told.add(stage.made)
            others = shared[stage.made] - 1
        where = prefix + stage.name + (f" (shared with {others} more run{'s' if others > 1 else ''})" if others else "")
        yield from _unfinished(stage, where)
        yield from _changed(stage, where)
        recorded = tuple(_recorded(stage, where))
        yield from _judge_notices(stage, where)
        yield from recorded or _drift(stage, where)  # the monitor has said it already
    for problem in run.problems:
        yield Notice("note", prefix.rstrip(" ·") or run.name, problem)


def _unfinished(stage: StageRecord, where: str) -> Iterator[Notice]:
    """That a stage did not finish, and why it ended."""
    if stage.status in FINISHED:
        return
    failed = stage.status in ("failed", "stopped", "error") or (stage.ended and stage.ended_by not in ASKED)
    why = f" It ended with: {stage.ended}" if stage.ended else ""
    said = f"This stage is {stage.status}; figures from it are not final.{why}"
    yield Notice("stop" if failed else "warn", where, said)


def _changed(stage: StageRecord, where: str) -> Iterator[Notice]:
    """What was changed while the stage was unfinished: the recipe shown is the last one."""
    for change in stage.changes:
        pairs = [f"{key}: {pair[0]} -> {pair[1]}" for key, pair in change.items() if isinstance(pair, list)]
        told = "; ".join(pair[:200] for pair in pairs[:MOST_CHANGES]) or "in a secret"
        more = f"; and {len(pairs) - MOST_CHANGES} more" if len(pairs) > MOST_CHANGES else ""
        yield Notice("warn", where, f"It went on with another recipe or data than it was begun with ({told}{more}).")


def _recorded(stage: StageRecord, where: str) -> Iterator[Notice]:
    """Alarms in result and metrics; one that repeats with other figures is said once, at its first step."""
    for key in ("alarm", "alarms", "stopped"):
        value = stage.result.get(key)
        for item in value if isinstance(value, list) else [value]:
            level, message = _alarm(item)
            if message:
                yield Notice(level, where, message)
    seen: set[str] = set()
    for row in stage.metrics:
        item = row.get("alarm") or {"action": row.get("alarm/action"), "message": row.get("alarm/message")}
        level, message = _alarm(item)
        kernel = re.sub(r"[\d.]+", "#", message)
        if message and kernel not in seen:
            seen.add(kernel)
            yield Notice(level, f"{where}, step {row.get('step', '?')}", message)


def _alarm(item: Any) -> tuple[str, str]:
    if isinstance(item, str):
        return "warn", item
    if not isinstance(item, dict) or item.get("action") == "none":
        return "warn", ""
    return ("stop" if str(item.get("action")).startswith("stop") else "warn"), str(item.get("message") or "")


def _judge_notices(stage: StageRecord, where: str) -> Iterator[Notice]:
    verdict, why = admission(stage.judge_check or {})
    if verdict in ("warn", "fail", "unmeasured"):
        said = {"fail": "The judge failed its check.", "unmeasured": "The judge could not be measured."}
        yield Notice(
            "stop" if verdict == "fail" else "warn",
            where,
            f"{said.get(verdict, 'The judge check warns.')} {why}".strip(),
        )


def _drift(stage: StageRecord, where: str) -> Iterator[Notice]:
    """The monitor's two questions, asked of the whole stage: first against last tenth of its rows (at least 3)."""
    for key in sorted({key for row in stage.metrics for key in row}):
        values = [value for row in stage.metrics if (value := number(row.get(key))) is not None]
        window = max(3, len(values) // 10)
        if len(values) < 2 * window:
            continue
        first, last = sum(values[:window]) / window, sum(values[-window:]) / window
        if key.startswith("monitor/") and key.endswith("/gap") and key.count("/") == 2 and last - first > _GAP_GROWTH:
            reward = key.split("/")[1]
            yield Notice(
                "warn",
                where,
                f"{reward} has drifted from the verifier on labeled rollouts: the gap between its mean score and the "
                f"verified mean grew from {first:+.2f} to {last:+.2f}. That is how reward hacking looks.",
            )
        if key.startswith("terms/") and key.endswith("/scored") and last < 1 - _UNSCORED:
            yield Notice(
                "warn",
                where,
                f"Only {percent(last, 0)} % of the rollouts of {key[6:-7]} have a score in the last rows.",
            )
