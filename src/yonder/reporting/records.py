"""A run directory read back into plain records. What is missing or half written is left out and named, never fatal."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
import zstandard

from yonder.errors import StorageError

MARKS = ("summary.json", "recipe.yaml", "card.json", "stages")  # a run directory has one of these
_LARGEST = sys.float_info.max  # an integer above it is no number that could be drawn
_ODD = re.compile(
    r"NaN|Infinity|[eE]\+?\d{3}|\d{300}|\\u[dD][89a-fA-F]"
)  # texts of what `clean` changes; most lines have none


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Accuracies over the instances of a benchmark: mean, sample standard deviation, how many, the mean's interval."""

    mean: float
    std: float | None
    n: int | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One checkpoint on one benchmark."""

    greedy: Accuracy
    vote: Accuracy | None = None
    votes: int | None = None  # k of the vote
    categories: Mapping[str, Accuracy] | None = None
    pass_at: Mapping[str, Accuracy] = field(default_factory=dict[str, Accuracy])  # k -> share solved by one of k
    subsets: Mapping[str, Accuracy] = field(default_factory=dict[str, Accuracy])
    groups: Mapping[str, Accuracy] = field(default_factory=dict[str, Accuracy])  # instances of the benchmark
    spread: Spread | None = None  # over the groups
    seeds: Mapping[str, float] = field(default_factory=dict[str, float])  # seed -> accuracy of sampled answers
    seed_spread: Spread | None = None  # over the seeds; the interval is over questions
    contamination: str = ""  # where training and test questions meet, or were not compared
    cached: bool = False
    questions: str = ""  # says whether two results are about the same questions in the same order
    correct: tuple[bool | None, ...] = ()  # greedy answers in that order; None: not scored


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What one stage left behind."""

    name: str
    kind: str
    status: str
    seconds: float | None
    result: dict[str, Any]
    metrics: tuple[dict[str, Any], ...] = ()
    judge_check: dict[str, Any] | None = None
    rollout_files: tuple[Path, ...] = ()
    events: tuple[dict[str, Any], ...] = ()  # trips of the monitor
    changes: tuple[Mapping[str, Any], ...] = ()  # key -> [old, new], for each time it went on with another recipe
    made: tuple[str, str, str] | None = None  # name, hash, begun: runs that share a finished stage have the same
    ended_by: str = ""  # the kind of error that ended it unfinished
    ended: str = ""  # and its sentence


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run directory in memory; rollouts stay on disk."""

    path: Path
    name: str
    title: str
    notes: tuple[str, ...]
    recipe: str
    card: dict[str, Any]
    stages: tuple[StageRecord, ...]
    results: dict[str, dict[str, BenchmarkResult]]  # stage -> benchmark -> result, in the order of the table
    problems: tuple[str, ...]  # one sentence for each file that could not be read whole


def read_run(path: Path) -> RunRecord:
    """Read the run in `path`; raises StorageError where that is no run directory."""
    path = Path(path)
    if not path.exists():
        raise StorageError(f"there is no run directory {path}; give the output_dir of a recipe that was run")
    if not path.is_dir() or not any((path / mark).exists() for mark in MARKS):
        raise StorageError(f"{path} is no run directory: it has none of {', '.join(MARKS)}; give a recipe's output_dir")
    problems: list[str] = []
    summary = read_object(path / "summary.json", problems)
    card = read_object(path / "card.json", problems)
    stages = _read_stages(path / "stages", _mapping(summary.get("stages")), problems)
    name = path.resolve().name
    recipe = _read_text(path / "recipe.yaml", problems)
    return RunRecord(
        path=path,
        name=name,
        title=str(summary.get("title") or (not summary and _title(recipe)) or name),
        notes=tuple(dict.fromkeys([*_texts(summary.get("notes")), *_texts(card.get("notes"))])),
        recipe=recipe,
        card=card,
        stages=stages,
        results=_read_results(summary, stages, _answers(path, problems)),
        problems=tuple(problems),
    )


def _title(recipe: str) -> str:
    """The title in a recipe; empty where it has none or cannot be read."""
    try:
        return str(_mapping(yaml.safe_load(recipe)).get("title") or "")
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON object, or {} with a sentence in `problems` if the file is damaged; a missing file is just {}."""
    text = _read_text(path, problems)
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        problems.append(f"{_short(path)} is not whole JSON and was left out.")
        return {}
    return _mapping(clean(value))


def read_lines(
    path: Path, problems: list[str], wanted: Callable[[int], bool] = lambda number: True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file, plain or zstd; unreadable lines are skipped and counted in `problems`.

    Lines that are not `wanted` are not even parsed, which is most of the time.
    """
    skipped = 0
    try:
        for number, line in enumerate(_text_lines(path)):
            if not line.strip() or not wanted(number):
                continue
            try:
                value = parse_line(line)
            except (ValueError, RecursionError):
                skipped += 1
                continue
            if isinstance(value, dict):
                yield number, value
    except (OSError, zstandard.ZstdError) as error:
        problems.append(f"{_short(path)} ends early ({error}).")
    if skipped:
        problems.append(f"{_short(path)}: {skipped} unreadable line{'s' if skipped > 1 else ''} left out.")


def parse_line(line: str) -> Any:
    """The JSON value of a line, cleaned; raises ValueError or RecursionError."""
    value = json.loads(line)
    return clean(value) if _ODD.search(line) else value


def clean(value: Any) -> Any:
    """JSON data with NaN and infinities as None (not measured), and lone surrogates, which UTF-8 lacks, replaced."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {str(clean(key)): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def number(value: Any) -> float | None:
    """The value as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _text_lines(path: Path) -> Iterator[str]:
    if path.suffix != ".zst":
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines
        return
    with path.open("rb") as file:  # one frame for each iteration was appended, so read across them
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        with io.TextIOWrapper(reader, encoding="utf-8", errors="replace") as lines:
            yield from lines


def _read_stages(folder: Path, summary: Mapping[str, Any], problems: list[str]) -> tuple[StageRecord, ...]:
    """Stages in the summary's order, then those that only left a directory, oldest first."""
    found = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
    found = [child for child in found if not child.name.startswith(".")]  # results of earlier configurations
    rest = sorted((child for child in found if child.name not in summary), key=lambda child: (_age(child), child.name))
    names = [*summary, *(child.name for child in rest)]
    return tuple(_read_stage(folder / name, _mapping(summary.get(name)), problems) for name in names)


def _read_stage(folder: Path, summary: Mapping[str, Any], problems: list[str]) -> StageRecord:
    record = {**summary, **read_object(folder / "stage.json", problems)}
    known = {"name", "kind", "status", "hash", "seconds", "result"}
    extra = {key: value for key, value in summary.items() if key not in known}
    metrics, events = (
        tuple(row for _, row in read_lines(folder / name, problems)) if _is_file(folder, name) else ()
        for name in ("metrics.jsonl", "events.jsonl")
    )
    ended = _mapping(record.get("ended"))
    return StageRecord(
        name=folder.name,
        kind=str(record.get("kind") or "unknown"),
        status=str(record.get("status") or "unfinished"),
        seconds=number(record.get("seconds")),
        result={**extra, **_mapping(record.get("result"))},
        metrics=metrics,
        judge_check=read_object(folder / "judge_check.json", problems) or None,
        rollout_files=tuple(sorted(folder.glob("rollouts-*.jsonl*"))) if folder.is_dir() else (),
        events=events,
        changes=tuple(change for change in _items(record.get("changes")) if isinstance(change, dict)),
        made=_made(folder.name, record),
        ended_by=str(ended.get("by") or ""),
        ended=str(ended.get("said") or "").strip(),
    )


def _made(name: str, record: Mapping[str, Any]) -> tuple[str, str, str] | None:
    digest, begun = record.get("hash"), record.get("begun")
    done = record.get("status") in ("done", "skipped", "shared")
    return (name, str(digest), str(begun)) if digest and begun and done else None


def _answers(path: Path, problems: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(stage, benchmark) -> its line in `evaluations.jsonl`, which has the verdict on each question."""
    whole = path / "evaluations.jsonl"
    files = [whole] if whole.is_file() else sorted(path.glob("stages/[!.]*/evaluations.jsonl"))
    rows = [row for file in files for _, row in read_lines(file, problems)]
    return {(str(row.get("stage")), str(row.get("benchmark"))): row for row in rows}


def _read_results(
    summary: Mapping[str, Any],
    stages: tuple[StageRecord, ...],
    answers: Mapping[tuple[str, str], dict[str, Any]],
) -> dict[str, dict[str, BenchmarkResult]]:
    """The summary's results; without a summary, what the evaluate stages say themselves."""
    tables = [_mapping(summary.get("results"))]
    if not tables[0]:
        tables = [_mapping(stage.result.get("results")) or stage.result for stage in stages if stage.kind == "evaluate"]
    results: dict[str, dict[str, BenchmarkResult]] = {}
    for table in tables:
        for stage, row in table.items():
            for benchmark, value in _mapping(row).items():
                result = _benchmark(_mapping(value), answers.get((stage, benchmark), {}))
                if result is not None:
                    results.setdefault(stage, {})[benchmark] = result
    return results


def _benchmark(value: Mapping[str, Any], answers: Mapping[str, Any]) -> BenchmarkResult | None:
    """`answers`: the line with the same numbers and every verdict; {} where it is lost."""
    same = answers.get("questions") == value.get("questions") and answers.get("accuracy") == value.get("accuracy")
    correct = tuple(_items(answers.get("correct"))) if same else ()
    greedy = _accuracy(value)
    if greedy is None:
        return None
    vote = _mapping(value.get("vote"))
    k = number(vote.get("samples"))
    seeds = {seed: number(accuracy) for seed, accuracy in _mapping(value.get("seeds")).items()}
    return BenchmarkResult(
        greedy=greedy,
        vote=_accuracy(vote),
        votes=None if k is None else int(k),
        categories=_accuracies(value.get("categories") or value.get("by_category")) or None,
        pass_at=_accuracies(value.get("pass_at_k")),
        subsets=_accuracies(value.get("subsets")),
        groups=_accuracies(value.get("by_group")),
        spread=_spread(_mapping(value.get("group_spread"))),
        seed_spread=_spread(_mapping(value.get("seed_spread"))),
        seeds={seed: accuracy for seed, accuracy in seeds.items() if accuracy is not None},
        contamination=str(_mapping(value.get("contamination")).get("note") or "").strip(),
        cached=value.get("cached") is True,
        questions=str(value.get("questions") or ""),
        correct=tuple(None if one is None else bool(one) for one in correct),
    )


def _accuracies(value: Any) -> dict[str, Accuracy]:
    found = {name: _accuracy(_mapping(item)) for name, item in _mapping(value).items()}
    return {name: item for name, item in found.items() if item is not None}


def _spread(value: Mapping[str, Any]) -> Spread | None:
    mean, n = number(value.get("mean")), number(value.get("n"))
    if mean is None:
        return None
    low, high = number(value.get("low")), number(value.get("high"))
    low, high = (None, None) if low == high else (low, high)  # all of them agree: that says nothing of the mean
    return Spread(mean, number(value.get("std")), None if n is None else int(n), low, high)


def _accuracy(value: Mapping[str, Any]) -> Accuracy | None:
    accuracy, n = number(value.get("accuracy")), number(value.get("n"))
    if accuracy is None:
        return None
    return Accuracy(accuracy, number(value.get("low")), number(value.get("high")), None if n is None else int(n))


def _read_text(path: Path, problems: list[str]) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{_short(path)} cannot be read ({error.strerror or error}).")
        return ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [str(item) for item in value if str(item).strip()] if isinstance(value, list) else []


def _is_file(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _age(folder: Path) -> float:
    marker = folder / "stage.json"
    return (marker if marker.exists() else folder).stat().st_mtime


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:]) if "stages" in path.parts else path.name
