"""Data sets that ship with Yonder: GSM8K (MIT), SVAMP with [ReFT]'s programs (Apache-2.0), generated word problems."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from yonder.data.records import Record
from yonder.errors import DataError

FILES = {
    ("gsm8k", "train"): ("gsm8k_train.jsonl.gz", "gsm8k_train_pot_calc.jsonl.gz"),
    ("gsm8k", "test"): ("gsm8k_test.jsonl.gz",),
    ("svamp", "train"): ("svamp_train_pot.jsonl.gz",),
    ("svamp", "test"): ("svamp_test.jsonl.gz",),
}


def gsm8k(split: str, options: Mapping[str, Any]) -> list[Record]:
    """GSM8K: 7,473 train questions (7,014 with a program derived from the calculator marks), 1,319 test questions.

    `programs_only: true` leaves out those without a program. DataError for another split or option.
    """
    _check_options("gsm8k", options, {"programs_only"})
    names = _files("gsm8k", split)
    programs = {row["id"]: row["cot_program"] for name in names[1:] for row in _rows(name)}
    records = [_record(row, programs.get(row["id"])) for row in _rows(names[0])]
    if options.get("programs_only"):
        records = [record for record in records if record.program is not None]
        if not records:
            raise DataError(f"gsm8k {split} has no programs; leave out `programs_only`, or use the train split")
    return records


def svamp(split: str, options: Mapping[str, Any]) -> list[Record]:
    """SVAMP as [ReFT] splits it: 3,043 train questions with programs, 1,000 test. DataError for another split."""
    _check_options("svamp", options, set())
    return [_record(row, row.get("cot_program")) for row in _rows(_files("svamp", split)[0])]


def generated(split: str, options: Mapping[str, Any]) -> list[Record]:
    """Word problems made here; `options` are the arguments of `word_problems` (count, seed, templates).

    DataError for a missing or unknown option, or one that `word_problems` refuses.
    """
    from yonder.data.word_problems import word_problems

    if split != "train":
        raise DataError(f"word-problems has no split `{split}`; leave `split` out and give another `seed` in `options`")
    parameters = inspect.signature(word_problems).parameters
    _check_options("word-problems", options, set(parameters))
    missing = [
        name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in options
    ]
    if missing:
        raise DataError(f"word-problems needs `options.{missing[0]}`, a whole number; add it to the data set")
    for name in {"count", "seed"} & set(options):
        if type(options[name]) is not int or (name == "count" and options[name] < 1):
            raise DataError(f"word-problems: `options.{name}` is {options[name]!r}; give a whole number")
    try:
        problems = word_problems(**options)
    except (TypeError, ValueError) as error:
        raise DataError(f"word-problems: {error}; mend `options`") from error
    return [
        Record(
            id=f"word-problems-{options['seed']}-{number}",
            question=problem.question,
            answer=problem.answer,
            program=_program(problem.body),
            category=problem.template,
        )
        for number, problem in enumerate(problems)
    ]


def content_hash(source: str, split: str) -> str:
    """SHA-256 of an embedded source's files, or of the code of word-problems. DataError for no such split."""
    digest = hashlib.sha256()
    folder = resources.files("yonder")
    if source == "word-problems":
        digest.update((folder / "data" / "word_problems.py").read_bytes())
    else:
        for name in _files(source, split):
            digest.update((folder / "assets" / "data" / name).read_bytes())
    return digest.hexdigest()


def _files(source: str, split: str) -> tuple[str, ...]:
    if (source, split) not in FILES:
        splits = " or ".join(f"`{name}`" for other, name in FILES if other == source)
        raise DataError(f"{source} has no split `{split}`; use {splits}")
    return FILES[source, split]


def _rows(name: str) -> list[dict[str, Any]]:
    data = (resources.files("yonder") / "assets" / "data" / name).read_bytes()
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def _record(row: Mapping[str, Any], program: str | None) -> Record:
    return Record(
        id=row["id"], question=row["question"], answer=row["answer"], program=program, text=row.get("cot_text")
    )


def _program(body: str) -> str:
    lines = body.split("\n")
    margin = "" if lines[0].startswith(" ") else "    "
    return "def solution():\n" + "\n".join(margin + line if line else line for line in lines)


def _check_options(source: str, options: Mapping[str, Any], known: set[str]) -> None:
    for name in options:
        if name not in known:
            have = ", ".join(sorted(known)) or "none"
            raise DataError(f"{source} has no option `{name}`; options it knows: {have}")
