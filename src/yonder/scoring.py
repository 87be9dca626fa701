"""Score a file of responses with a judge: what `yonder judge` does."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import yonder
from yonder.assemble import load_judge
from yonder.core.judging import judge_value
from yonder.data.columns import Row
from yonder.data.files import read_rows
from yonder.data.responses import append_lines, read_lines
from yonder.errors import DataError
from yonder.evaluation.scored_file import summarise
from yonder.judges.prompt import read_judge_prompt
from yonder.recipe.rewards import CONSENT, JudgeSettings
from yonder.reporting.redaction import redact
from yonder.schema import JudgeScore, Response
from yonder.storage import read_json, write_json
from yonder.training.progress import Progress

ADDED = ("value", "logit_gap", "mass", "truncated", "missing_yes", "missing_no", "reason")
CHUNK = 64  # responses between two writes
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


def score_file(
    source: Path, settings: JudgeSettings, columns: Columns, output: Path, progress: Progress
) -> dict[str, Any]:
    """Write every line of `source` with the judge's score to `output`; returns the summary.

    What an interrupted call with the same settings wrote is kept. DataError for lines that cannot be used and for an
    output that holds anything else.
    """
    cases = read_cases(source, columns)
    record = output.with_name(output.name + ".judge.json")
    made_by = redact(
        {
            "yonder": yonder.__version__,
            "settings": settings.model_dump(mode="json", exclude=CONSENT),
            "prompt": read_judge_prompt(settings.prompt),
            "columns": asdict(columns),
        }
    )
    rows = _written(output, record, made_by, cases)
    judge = load_judge(settings) if len(rows) < len(cases) else None
    write_json(record, {"made_by": made_by})
    progress.start(output.name, len(cases), len(rows))
    if judge is not None:
        for start in range(len(rows), len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            scores = judge.score([(case.question, case.response) for case in chunk])
            fresh = [case.values | _shown(score) for case, score in zip(chunk, scores, strict=True)]
            append_lines(output, fresh)
            rows += fresh
            progress.advance(len(rows), {"unscored": str(sum(row["value"] is None for row in rows))})
    progress.finish()
    responses = [Response(case.question, case.question, case.response, case.correct, "file") for case in cases]
    scores = [_score(row, settings.tau) for row in rows]
    summary = summarise(responses, scores, settings.delta) | {"output": str(output)}
    write_json(record, {"made_by": made_by, "summary": summary})
    return summary


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
        )
        for row in rows
    ]


def _written(output: Path, record: Path, made_by: Mapping[str, Any], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The rows that are there already; DataError unless they are the first ones of this very call."""
    if not output.exists():
        return []
    mend = "delete it or give another --output"
    if read_json(record).get("made_by") != made_by:
        raise DataError(f"{output} is there already and is not known to be of this judge and these settings; {mend}")
    try:
        rows = read_lines(output)
    except ValueError as error:
        raise DataError(f"{output} has a line that is not JSON ({error}); {mend}") from error
    for number, row in enumerate(rows, 1):
        bare = {name: value for name, value in row.items() if name not in ADDED}
        if number > len(cases) or json.dumps(bare) != json.dumps(cases[number - 1].values):
            raise DataError(f"{output}, line {number}: not the same line as in the file to score; {mend}")
    return rows


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


def _shown(score: JudgeScore) -> dict[str, Any]:
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
