"""Data sets of the Hugging Face hub, through `datasets.load_dataset`; a downloaded copy is read in the same way."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.data import hub_rows
from yonder.data.columns import Row, records_from_rows
from yonder.data.files import read_rows
from yonder.data.records import Record, unique_ids
from yonder.errors import DataError

OPTIONS = ("config", "revision", "path")
UNANSWERABLE = "unanswerable"  # an option of the sets that have questions without an answer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubSet:
    """A data set whose columns we know. Splits are checked before anything is downloaded."""

    repository: str
    splits: tuple[str, ...]
    convert: Callable[[Mapping[str, Any], str], Record | None]  # row, id -> record; None: no usable label
    config: str | None = None
    held_apart: str | None = None  # split whose questions are dropped from the others
    whole: Callable[[Mapping[str, Any], str], Record | None] | None = None  # `convert` with unanswerable questions too


_NAMED = {
    # [R] and [J] name allenai/math_qa: a loading script, which datasets >= 4 refuses. This copy has the same rows
    # (checked by hash in EleutherAI/lm-evaluation-harness, pull request 3943).
    "mathqa": HubSet("regisss/math_qa", ("train", "validation", "test"), hub_rows.mathqa, held_apart="test"),
    # Its train split contains GSM8K's own train questions; its 500 validation questions are GSM8K train questions too.
    "gsm8k-aug": HubSet("whynlp/gsm8k-aug", ("train", "validation", "test"), hub_rows.gsm8k_aug),
    # Perturbs the questions of GSM8K TEST: a policy trained on it has seen relatives of that benchmark.
    "gsm-plus": HubSet("qintongli/GSM-Plus", ("test", "testmini"), hub_rows.gsm_plus, whole=hub_rows.gsm_plus_whole),
    "gsm-symbolic": HubSet("apple/GSM-Symbolic", ("test",), hub_rows.gsm_symbolic, config="main"),
    # Its validation split has five worked questions for each category; the benchmark is its test split.
    "mmlu-pro": HubSet("TIGER-Lab/MMLU-Pro", ("test", "validation"), hub_rows.mmlu_pro),
    "hub:openai/gsm8k": HubSet("openai/gsm8k", ("train", "test"), hub_rows.gsm8k, config="main"),
    "hub:ChilleD/SVAMP": HubSet("ChilleD/SVAMP", ("train", "test"), hub_rows.svamp),
}
_BY_REPOSITORY = {f"hub:{known.repository}": known for known in _NAMED.values()}
KNOWN = {**_NAMED, **_BY_REPOSITORY, "hub:allenai/math_qa": _NAMED["mathqa"]}


def read_hub(source: str, split: str, options: Mapping[str, Any], columns: Mapping[str, str]) -> list[Record]:
    """The records of `mathqa`, `gsm8k-aug`, `gsm-plus`, `gsm-symbolic`, `mmlu-pro`, or `hub:OWNER/NAME` with columns.

    `options`: `config`, `revision`, and `path`: a folder with a downloaded copy, or a file of one split, read instead
    of the hub; `unanswerable: true` keeps GSM-Plus's questions without an answer. Questions without a usable label, and
    MathQA's that also occur in its test split, are left out and counted in the log. DataError where the data set
    cannot be had, has no such split or column, or an option is unknown.
    """
    known = None if columns else KNOWN.get(source)
    names = OPTIONS if known is None or known.whole is None else (*OPTIONS, UNANSWERABLE)
    for name in options:
        if name not in names:
            raise DataError(f"{source} has no option `{name}`; options it knows: {', '.join(names)}")
    if known is None:
        repository = source.removeprefix("hub:")
        rows = [
            Row(f"{source}, row {number}", row)
            for number, row in enumerate(load_rows(source, repository, None, split, options))
        ]
        return records_from_rows(rows, columns, source)
    if split not in known.splits:
        raise DataError(f"{source} has no split `{split}`; use {' or '.join(f'`{name}`' for name in known.splits)}")
    records = _convert(source, known, split, options)
    if known.held_apart not in (None, split) and _file(options):
        log.warning(
            "%s: its %s split is not in %s, so none of its questions is left out",
            source,
            known.held_apart,
            options["path"],
        )
    elif known.held_apart not in (None, split):
        records = _without(
            records, _convert(source, known, known.held_apart or "", options), source, known.held_apart or ""
        )
    return records


def _convert(source: str, known: HubSet, split: str, options: Mapping[str, Any]) -> list[Record]:
    rows = load_rows(source, known.repository, known.config, split, options)
    stem = source.removeprefix("hub:").rpartition("/")[2]
    convert = known.whole if known.whole is not None and options.get(UNANSWERABLE) else known.convert
    records: list[Record] = []
    for number, row in enumerate(rows):
        try:
            record = convert(row, f"{stem}-{split}-{number}")
        except (KeyError, TypeError, AttributeError) as error:
            have = ", ".join(row)
            mend = f"use `source: hub:{known.repository}` with `columns`"
            raise DataError(
                f"{source}, row {number}: not the columns we know ({error}); it has {have}; {mend}"
            ) from error
        if record is not None:
            records.append(record)
    if len(records) < len(rows):
        log.warning(
            "%s %s: left out %d of %d questions without a label", source, split, len(rows) - len(records), len(rows)
        )
    ids = unique_ids([record.id for record in records])
    return [hub_rows.with_id(record, name) for record, name in zip(records, ids, strict=True)]


def _letters(question: str) -> str:
    """Letters and digits, lower case: MathQA's copies differ in spacing and punctuation."""
    return re.sub(r"[\W_]+", "", question.lower())


def _without(records: list[Record], apart: Sequence[Record], source: str, split: str) -> list[Record]:
    taken = {_letters(record.question) for record in apart}
    kept = [record for record in records if _letters(record.question) not in taken]
    if len(kept) < len(records):
        log.warning(
            "%s: left out %d questions that also occur in its %s split", source, len(records) - len(kept), split
        )
    return kept


def load_rows(
    source: str,
    repository: str,
    config: str | None,
    split: str,
    options: Mapping[str, Any],
    local: str = "give the folder as `options: {path: FOLDER}`",
) -> list[dict[str, Any]]:
    """All rows of a split. Whatever `datasets` raises becomes a DataError that names the data set and two mends.

    `local`: how a downloaded copy is given.
    """
    file = _file(options)
    if file is not None:
        return [dict(row.values) for row in read_rows(file)]
    import datasets

    path = options.get("path")
    try:
        dataset = datasets.load_dataset(
            str(path or repository), options.get("config", config), split=split, revision=options.get("revision")
        )
        return dataset.to_list()
    except Exception as error:  # network, hub, cache and format errors of several libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if path is not None:
            mend = "give the folder of a complete download"
        else:
            mend = (
                "connect to the hub, or download it elsewhere "
                f"(hf download --repo-type dataset {repository}) and {local}"
            )
        raise DataError(
            f"{source}: {path or repository} (split {split}) could not be loaded: {reason}; {mend}"
        ) from error


def _file(options: Mapping[str, Any]) -> Path | None:
    """The one file that is read instead of the hub."""
    path = Path(str(options.get("path") or "")).expanduser()
    return path if options.get("path") and path.is_file() else None
