"""Rows of a user's table -> records, by a map from our fields to their columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from yonder.data.records import (
    Record,
    clean_text,
    normalise_label,
    parse_options,
    split_gsm8k,
    unique_ids,
    with_choice,
)
from yonder.errors import DataError

FIELDS = ("question", "answer", "solution", "id", "category", "options", "reference")
ORIGINS = ("seed_question", "original_question")  # columns with the question that this one was made from
ALIASES = {"program": "cot_program", "text": "cot_text"}  # Yonder's own files name them so

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One row, and where it stands ("questions.jsonl, line 3")."""

    where: str
    values: Mapping[str, Any]


def records_from_rows(rows: Sequence[Row], columns: Mapping[str, str], source: str) -> list[Record]:
    """One record a row; `columns` names their column for each of our FIELDS, default: the same name.

    A `solution` that defines `solution()` is a program, anything else is reasoning. An answer in GSM8K's form is split
    at `####`. Rows without an id are numbered; a repeated id gets `#2`. DataError for an unknown field, a column that
    is not there, a row without a question in words, and options that cannot be read.
    """
    if not rows:
        raise DataError(f"{source} is empty; give a data set with at least one question")
    _check_columns(columns, rows, source)
    records = [_record(row, columns, number) for number, row in enumerate(rows)]
    ids = unique_ids([record.id for record in records])
    repeated = sum(record.id != unique for record, unique in zip(records, ids, strict=True))
    if repeated:
        log.warning("%s: %d repeated ids got a number (`#2`...)", source, repeated)
    return [replace(record, id=name) for record, name in zip(records, ids, strict=True)]


def _check_columns(columns: Mapping[str, str], rows: Sequence[Row], source: str) -> None:
    for field in columns:
        if field not in FIELDS:
            raise DataError(f"{source}: `columns` has no field `{field}`; our fields are {', '.join(FIELDS)}")
    present = {name: None for row in rows for name in row.values}
    for field in ("question", *columns):
        column = columns.get(field, field)
        if column not in present:
            have = ", ".join(present) or "none"
            mend = f"set `columns: {{{field}: NAME}}` to one of them" if present else "check the file"
            raise DataError(f"{source} has no column `{column}` (for `{field}`); its columns are {have}; {mend}")


def _record(row: Row, columns: Mapping[str, str], number: int) -> Record:
    def value(field: str) -> Any:
        found = row.values.get(columns.get(field, field))
        return row.values.get(ALIASES.get(field, "")) if found is None else found

    column, asked = columns.get("question", "question"), value("question")
    question = _text(asked)
    if not question:
        raise DataError(f"{row.where}: `{column}` is empty or missing; fill it in or delete the row")
    if not isinstance(asked, str):
        kind = type(asked).__name__
        raise DataError(
            f"{row.where}: `{column}` is not text but {kind} ({str(asked)[:40]}); write the question's words"
        )
    raw = value("answer")
    answer, program, text = normalise_label(raw), _text(value("program")), _text(value("text"))
    solution = _text(value("solution"))
    if isinstance(raw, str) and "\n#### " in f"\n{raw}":
        reasoning, answer = split_gsm8k(clean_text(raw))
        text = text or reasoning or None
    if solution is not None and "def solution(" in solution:
        program = solution
    elif solution is not None:
        text = solution
    record = Record(
        id=_text(value("id")) or f"row-{number}",
        question=question,
        answer=answer,
        program=program,
        text=text,
        category=_text(value("category")) or "",
        reference=_text(value("reference")),
        extra={name: text for name in ORIGINS if (text := _text(row.values.get(name))) is not None},
    )
    return _with_options(record, value("options"), row.where)


def _text(value: object) -> str | None:
    """A cell as text; None for nothing, NaN and blank."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables read whole numbers with gaps as floats
    return clean_text(str(value)) or None


def _with_options(record: Record, raw: object, where: str) -> Record:
    if raw is None or raw == "":
        return record
    options = parse_options(raw)
    if not options:
        mend = 'write a list, or {"a": ..., "b": ...}, or "a ) ... , b ) ..."'
        raise DataError(f"{where}: the options {str(raw)[:60]!r} cannot be read; {mend}")
    with_letter = with_choice(replace(record, options=options))
    if record.answer is not None and with_letter.answer is None:
        mend = "give its letter or its text"
        raise DataError(f"{where}: the answer {record.answer[:40]!r} is none of the {len(options)} options; {mend}")
    return with_letter
