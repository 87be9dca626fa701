"""Score a file of responses with a judge: what `yonder judge` does; an output that an interrupted call continues."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import yonder
from yonder.assembly.judges import load_judge
from yonder.core.judging import judge_value
from yonder.data.columns import Row
from yonder.data.files import read_rows
from yonder.data.responses import append_lines, read_lines
from yonder.errors import DataError
from yonder.evaluation.scored_file import summarise
from yonder.judges.prompt import read_judge_prompt
from yonder.recipe.rewards import CONSENT, JudgeSettings
from yonder.reporting.redaction import redact
from yonder.rewards.judge import JudgeReward, with_reference
from yonder.schema import JudgeScore, Response
from yonder.storage import read_json, write_json
from yonder.training.progress import Progress

ADDED = ("value", "logit_gap", "mass", "truncated", "missing_yes", "missing_no", "reason")
CHUNK = 64  # lines between two writes
_LABELS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file hold what."""

    question: str = "question"
    response: str = "response"
    correct: str | None = None  # None: `correct`, if the file has it


class Case(NamedTuple):
    """One line of the file."""

    values: dict[str, Any]
    question: str
    response: str
    correct: bool | None  # None: no label
    reference: str | None = None  # the column `reference`, for judges that are shown it


class Work(NamedTuple):
    """An output to be written line by line."""

    heads: Sequence[dict[str, Any]]  # what each line has before its scores: an earlier output must agree
    lines: Callable[[JudgeReward, int, int], list[dict[str, Any]]]  # the lines from one number up to another
    unscored: Callable[[Mapping[str, Any]], int]  # responses of a line without a score


def score_file(
    source: Path, settings: JudgeSettings, columns: Columns, output: Path, progress: Progress
) -> dict[str, Any]:
    """Write every line of `source` with the judge's score to `output`; returns the summary.

    What an interrupted call with the same settings wrote is kept. DataError for lines that cannot be used and for an
    output that holds anything else.
    """
    cases = read_cases(source, columns)
    if settings.show_reference and all(case.reference is None for case in cases):
        raise DataError(f"{source} has no column `reference` with a text, which `show_reference` needs; rename yours")
    made_by = maker(settings, columns=asdict(columns))

    def lines(judge: JudgeReward, start: int, stop: int) -> list[dict[str, Any]]:
        chunk = cases[start:stop]
        scores = judge.score([(asked(case, settings), case.response) for case in chunk])
        return [case.values | shown(score) for case, score in zip(chunk, scores, strict=True)]

    work = Work([case.values for case in cases], lines, _unscored)
    rows = scored_lines(work, settings, output, made_by, progress)
    responses = [Response(case.question, case.question, case.response, case.correct, "file") for case in cases]
    scores = [_score(row, settings.tau) for row in rows]
    summary = summarise(responses, scores, settings.delta) | {"output": str(output)}
    write_json(record_of(output), {"made_by": made_by, "summary": summary})
    return summary


def asked(case: Case, settings: JudgeSettings) -> str:
    """The question as the judge reads it."""
    return with_reference(case.question, case.reference) if settings.show_reference else case.question


def maker(settings: JudgeSettings, **more: Any) -> dict[str, Any]:
    """What decides an output, without secrets."""
    return redact(
        {
            "yonder": yonder.__version__,
            "settings": settings.model_dump(mode="json", exclude=CONSENT),
            "prompt": read_judge_prompt(settings.prompt),
            **more,
        }
    )


def record_of(output: Path) -> Path:
    """Where settings and summary of an output stand."""
    return output.with_name(output.name + ".judge.json")


def scored_lines(
    work: Work, settings: JudgeSettings, output: Path, made_by: Mapping[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    """All lines of `output`: those that an interrupted call of the same `made_by` wrote, and the others, now written.

    The judge is loaded only where a line is missing. DataError for an output that holds anything else.
    """
    record = record_of(output)
    rows = _written(output, record, made_by, work.heads)
    judge = load_judge(settings) if len(rows) < len(work.heads) else None
    write_json(record, {"made_by": made_by})
    progress.start(output.name, len(work.heads), len(rows))
    if judge is not None:
        for start in range(len(rows), len(work.heads), CHUNK):
            fresh = work.lines(judge, start, start + CHUNK)
            append_lines(output, fresh)
            rows += fresh
            progress.advance(len(rows), {"unscored": str(sum(map(work.unscored, rows)))})
    progress.finish()
    return rows


def read_cases(source: Path, columns: Columns) -> list[Case]:
    """The lines of a file; DataError names the file and line that cannot be used."""
    rows = read_rows(source)
    if not rows:
        raise DataError(f"{source} is empty; give a file with at least one response")
    have = {name: None for row in rows for name in row.values}
    if taken := [name for name in ADDED if name in have]:
        raise DataError(f"{source} has a column `{taken[0]}` already, which the scores need; rename it")
    for option, column in (
        ("question", columns.question),
        ("response", columns.response),
        ("correct", columns.correct),
    ):
        if column is not None and column not in have:
            raise DataError(f"{source} has no column `{column}`; it has {', '.join(have)}; give --{option} COLUMN")
    return [
        Case(
            cast(dict[str, Any], json.loads(json.dumps(dict(row.values), default=str))),
            _text(row, columns.question),
            _text(row, columns.response),
            _label(row, columns.correct or "correct"),
            None if row.values.get("reference") is None else str(row.values["reference"]),
        )
        for row in rows
    ]


def _written(
    output: Path, record: Path, made_by: Mapping[str, Any], heads: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rows that are there already; DataError unless they are the first ones of this very call."""
    if not output.exists():
        return []
    mend = "delete it or give another --output"
    if read_json(record).get("made_by") != made_by:
        raise DataError(f"{output} is there already and is not known to be of this judge and these settings; {mend}")
    rows = read_lines(output, mend)
    for number, row in enumerate(rows, 1):
        head = heads[number - 1] if number <= len(heads) else None
        if head is None or json.dumps(dict(list(row.items())[: len(head)])) != json.dumps(head):
            raise DataError(f"{output}, line {number}: not the same line as in the file to score; {mend}")
    return rows


def _unscored(row: Mapping[str, Any]) -> int:
    return int(row["value"] is None)


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if not isinstance(value, str):
        found = "missing" if value is None else f"a {type(value).__name__}, not a text"
        raise DataError(f"{row.where}: `{column}` is {found}; write a text or delete the row")
    return value


def _label(row: Row, column: str) -> bool | None:
    value = row.values.get(column)
    if value is None:
        return None
    if str(value).lower() not in _LABELS:
        raise DataError(f"{row.where}: `{column}` is {value!r}; write true, false or null")
    return _LABELS[str(value).lower()]


def shown(score: JudgeScore) -> dict[str, Any]:
    """What is added to a line; numbers that are none are null."""
    found = {name: getattr(score, name) for name in ADDED}
    for name in ("logit_gap", "mass"):
        if found[name] is not None and not math.isfinite(found[name]):
            found[name] = None
    return found


def _score(row: Mapping[str, Any], tau: float) -> JudgeScore:
    """A line's score as it was, with the probability before delta."""
    gap = cast(float | None, row["logit_gap"])
    details = {} if gap is None else {"probability": judge_value(gap, tau, 0.0)}
    facts = {name: row[name] for name in ADDED[1:-1]}
    return JudgeScore(row["value"], row["reason"], details, **facts)
