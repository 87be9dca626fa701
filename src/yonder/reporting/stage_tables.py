"""What stages of reward distillation found, as tables for page and terminal; what was not measured is never a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from yonder.core.statistics import wilson
from yonder.reporting.judge_figures import figure, mapping, text
from yonder.reporting.records import RunRecord, number
from yonder.reporting.tables import percent, run_labels

_NONE = "–"
_UNMEASURED = "not measured"
_FIGURES = ("figure", "value", "95 %", "n")
_FIT = (  # key in the result, what a reader calls it, shown in per cent
    ("pair_accuracy", "pairs in the right order", True),
    ("ece", "calibration error (ECE)", False),
    ("brier", "Brier score", False),
    ("false_positive_rate", "wrong ones liked", True),
)
_MINIMAL = "length_controlled_minimal"
_LENGTH_CONTROL = {
    "length_controlled_v1": "Length-controlled as by AlpacaEval 2, with the gamed baselines (length_controlled_v1).",
    _MINIMAL: "Length-controlled without the gamed baselines (length_controlled_minimal): not comparable with "
    "AlpacaEval 2's leaderboard, and without a standard error.",
}


@dataclass(frozen=True, slots=True)
class StageTable:
    """Text cells under a title; the first column says what the others are of."""

    title: str
    lead: str  # the stage in a sentence, or nothing
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    part: bool = False  # more of the table before it
    first: int | None = None  # so many columns are shown where there is little room

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


class Found(NamedTuple):
    """A stage's result, with its name as a reader sees it."""

    name: str
    kind: str
    result: Mapping[str, Any]


def found_by(runs: Sequence[RunRecord]) -> tuple[StageTable, ...]:
    """The tables of all runs, in the order of their stages."""
    several = len(runs) > 1
    return stage_tables([
        Found(f"{label} · {stage.name}" if several else stage.name, stage.kind, stage.result)
        for label, run in zip(run_labels(runs), runs, strict=True)
        for stage in run.stages
    ])  # fmt: skip


def stage_tables(stages: Sequence[Found]) -> tuple[StageTable, ...]:
    """Win rates first, then what was collected, labeled and fitted."""
    asked = [stage for stage in stages if stage.kind == "collect" and "prompt_tokens" in stage.result]
    tables = [win_rates(stage) for stage in stages if stage.kind == "alpaca-eval"]
    tables += [collected(asked)] if asked else []
    tables += [labels(stage) for stage in stages if stage.kind == "label"]
    tables += [table for stage in stages if stage.kind == "fit-judge" for table in fitted(stage)]
    return tuple(table for table in tables if table.rows)


def win_rates(stage: Found) -> StageTable:
    """One row a checkpoint of an alpaca-eval stage."""
    found = {name: mapping(row) for name, row in mapping(stage.result.get("win_rates")).items()}
    notes = [
        _LENGTH_CONTROL[model] for model in _LENGTH_CONTROL if any(r.get("model") == model for r in found.values())
    ]
    for name, row in found.items():
        reasons = row.get("reasons")
        if reasons and isinstance(reasons, list):
            left = f"{_count(row.get('unjudged'))} of {_count(row.get('instructions'))} not judged"
            notes.append(f"{name}: {left}: {'; '.join(str(reason) for reason in reasons)}")
    return StageTable(
        f"AlpacaEval · {stage.name}",
        "",
        ("checkpoint", "win rate ± s.e.", "length-controlled ± s.e.", "won, lost, drawn",
         "judged", "not judged", "position bias", "characters", "the baseline's"),
        tuple((name, *_win_cells(row)) for name, row in found.items()),
        tuple(notes),
        first=5,
    )  # fmt: skip


def _win_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    outcomes = [row.get(key) for key in ("wins", "losses", "draws")]
    bias = number(row.get("position_bias"))
    minimal = row.get("model") == _MINIMAL  # predicts the same of every instruction: its spread of 0 says nothing
    return (
        _with_error(row.get("win_rate"), row.get("standard_error")),
        _with_error(row.get("length_controlled"), None if minimal else row.get("length_controlled_error")),
        _NONE if None in outcomes else ", ".join(map(_count, outcomes)),
        _count(row.get("n")),
        _count(row.get("unjudged")),
        _NONE if bias is None else f"{bias:+.2f}",
        _count(row.get("length")),
        _count(row.get("baseline_length")),
    )


def collected(stages: Sequence[Found]) -> StageTable:
    """One row a collect stage that asked a teacher on a server."""
    uncounted = [stage.name for stage in stages if stage.result.get("tokens_counted") is False]
    keys = ("responses", "unanswered", "unread")
    return StageTable(
        "What the teacher was asked",
        "",
        ("stage", "answers", "lacking", "unread", "right", "tokens read", "tokens written", "cost"),
        tuple(
            (
                stage.name,
                *(_count(stage.result.get(key)) for key in keys),
                _part(stage.result.get("correct")),
                *(_count(stage.result.get(key)) for key in ("prompt_tokens", "completion_tokens")),
                _cost(stage.result.get("cost")),
            )
            for stage in stages
        ),
        tuple(f"{name}: the server did not count all tokens; the others are estimated." for name in uncounted),
    )


def labels(stage: Found) -> StageTable:
    """What a label stage kept and dropped, how sure the votes are, and how wrong the labels where that was measured."""
    result = stage.result
    rows = [
        ("questions", _count(result.get("questions")), "", ""),
        ("with a label", _count(result.get("kept")), "", ""),
    ]
    rows += [(f"dropped: {why}", _count(count), "", "") for why, count in mapping(result.get("dropped")).items()]
    rows += [
        ("without a good teacher response", _count(result.get("without_good_teacher_response")), "", ""),
        ("responses", _count(result.get("responses")), "", ""),
        ("responses without a label", _count(result.get("unlabeled")), "", ""),
    ]
    named = (("good_teacher", "good, of the teacher's", True), ("good_others", "good, of the others", True),
             ("share", "mean share of the vote", True), ("entropy", "mean entropy of the answers, nats", False),
             ("missing", "teacher answers that could not be read", False))  # fmt: skip
    rows += [row for key, label, share in named if (row := _row(label, result.get(key), share))]
    rows += _comparisons(mapping(result.get("comparisons")))
    rows += _noise(mapping(result.get("noise")))
    return StageTable(f"Labels · {stage.name}", _sentence(result), _FIGURES, tuple([*rows, *_accuracy(result)]))


def _comparisons(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Of labels by comparison in pairs; no row where nothing was compared."""
    named = (("pairs", "pairs compared, in both orders"), ("unscored", "pairs without a verdict"), ("ties", "ties"),
             ("truncated", "pairs cut to fit the judge"), ("equal", "responses with the text of another"))  # fmt: skip
    rows = [(label, _count(found[key]), "", "") for key, label in named if key in found]
    bias = number(found.get("position_bias"))
    if rows:
        rows.append(("position bias", _NONE if bias is None else f"{bias:+.2f}", "", ""))
    return rows


def _noise(noise: Mapping[str, Any]) -> list[tuple[str, ...]]:
    named = (("share", "wrong on purpose (noise)", True), ("questions", "noise: questions with another vote", False),
             ("labels", "noise: labels that changed", False))  # fmt: skip
    return [row for key, label, share in named if (row := _row(label, noise.get(key), share))]


def _accuracy(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """How often labels are right where verified ones are known; one row says so where none is."""
    rows: list[tuple[str, ...]] = []
    named = (("votes", "votes that are right"), ("teacher", "right labels, of the teacher's responses"),
             ("others", "right labels, of the others"))  # fmt: skip
    for key, label in named:
        found = mapping(mapping(result.get("accuracy")).get(key))
        row = _row(label, found, True)
        if row is not None:
            rows.append(row)
            wrong = (("wrong_called_good", "wrong called good"), ("right_called_bad", "right called bad"))
            rows += [(f"{label}: {said}", _count(found[name]), "", "") for name, said in wrong if name in found]
    return rows or [("right labels: no answer is known", _UNMEASURED, "", "")]


def fitted(stage: Found) -> list[StageTable]:
    """What a fitted judge or classifier reached on held-out responses: in all, and by source and length."""
    result = stage.result
    figures = mapping(result.get("held_out_figures"))
    sources = {name: mapping(cell) for name, cell in mapping(result.get("by_source")).items()}
    lengths = {name: mapping(cell) for name, cell in mapping(result.get("by_length")).items()}
    if not figures:
        return []
    read = sum(number(cell.get("n")) or 0 for cell in sources.values())
    right = sum((number(cell.get("n")) or 0) * (number(cell.get("accuracy")) or 0) for cell in sources.values())
    rows = [_row("accuracy", _share(right, read), True) or ("accuracy", _UNMEASURED, "", "")]
    rows += [row for key, label, share in _FIT if (row := _row(label, figures.get(key), share))]
    counts = (("training", "responses trained on"), ("held_out", "responses held out"))
    rows += [(label, _count(result[key]), "", "") for key, label in counts if key in result]
    tables = [StageTable(f"Fitted · {stage.name}", _sentence(result), _FIGURES, tuple(rows))]
    for cells, of in ((sources, "source"), (lengths, "length (thirds by characters)")):
        parts = [
            row for name, cell in cells.items() if (row := _row(name, {**cell, "value": cell.get("accuracy")}, True))
        ]
        columns = (of.partition(" ")[0], "accuracy", "95 %", "n")
        tables.append(
            StageTable(f"Fitted · {stage.name}: held-out accuracy by {of}", "", columns, tuple(parts), part=True)
        )
    return tables


def _share(right: float, n: float) -> dict[str, Any]:
    if n < 1:
        return {}
    found = wilson(min(max(right, 0.0), int(n)), int(n))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _row(label: str, value: Any, share: bool) -> tuple[str, str, str, str] | None:
    """Label, value, interval and n; None where there is no value."""
    inner = mapping(value)
    found = None if isinstance(value, dict) and number(inner.get("value")) is None else figure(value, share)
    if found is None:
        return None
    n = number(inner.get("n"))
    return label, found["text"], found["interval"], "" if n is None else _count(n)


def _sentence(result: Mapping[str, Any]) -> str:
    said = result.get("sentence")
    return f"{said[:1].upper()}{said[1:]}." if isinstance(said, str) and said else ""


def _count(value: Any) -> str:
    plain = number(value)
    return _NONE if plain is None else f"{plain:,.0f}"


def _with_error(value: Any, error: Any) -> str:
    """A percentage as it is, and its standard error: 41.234 -> 41.2 % ± 1.3."""
    plain, spread = number(value), number(error)
    return _NONE if plain is None else f"{plain:.1f} %" + ("" if spread is None else f" ± {spread:.1f}")


def _part(value: Any) -> str:
    """A share: 0.412 -> 41.2 %."""
    plain = number(value)
    return _NONE if plain is None else f"{percent(plain)} %"


def _cost(value: Any) -> str:
    plain = number(value)
    return _NONE if plain is None else f"{plain:,.2f}" if plain >= 1 else text(plain, share=False)
