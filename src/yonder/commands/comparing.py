"""`yonder compare`: the evaluations of two runs, or of two stages of one, question by question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.data.datasets import load_data
from yonder.errors import DataError, YonderError
from yonder.evaluation.comparison import Comparison, Row, compare, read_rows, ways
from yonder.recipe import Recipe, load_recipe
from yonder.reporting.records import MARKS
from yonder.reporting.sweeps import is_sweep
from yonder.schema import Prompt


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    run: Path
    stage: str | None  # None: whatever the other one has too
    rows: tuple[Row, ...]

    def row(self, stage: str, benchmark: str) -> Row | None:
        """The evaluation of a stage on a benchmark."""
        return next((row for row in self.rows if (row["stage"], row["benchmark"]) == (stage, benchmark)), None)


def compare_runs(first: str, second: str, examples: int = 3) -> dict[str, Any]:
    """Compare every benchmark that both answered; each side is RUN or RUN:STAGE.

    Without a stage those of the same name are compared. `examples`: questions shown of each kind of flip. DataError for
    a folder without evaluations, sides that have nothing in common, and questions that are not the same.
    """
    a, b = _side(first), _side(second)
    found = [
        _compared(a, b, one, other, examples) for one, other in _pairs(a, b) if "correct" in one and "correct" in other
    ]
    if not found:
        raise DataError(f"{first} and {second} have no benchmark in common; {_have(a)}; {_have(b)}")
    return {"a": str(a.run), "b": str(b.run), "rows": [row for rows in found for row in rows]}


def _side(text: str) -> Side:
    run, stage = Path(text), None
    if not run.is_dir() and ":" in text:
        name, _, stage = text.rpartition(":")
        run = Path(name)
    if not run.is_dir():
        raise DataError(f"there is no run directory {run}; give RUN, or RUN:STAGE for one of its rows")
    rows = read_rows(run)
    if not rows and is_sweep(run):
        raise DataError(f"{run} is a sweep; give one of its runs, as {run}/ROW/seed-0; its table compares the rows")
    if not rows and not any((run / mark).exists() for mark in MARKS):
        raise DataError(f"{run} is no run directory; give the output_dir of a recipe that was run")
    if not rows:
        raise DataError(f"{run} has no evaluations; {_how_to_evaluate(run)}")
    stages = dict.fromkeys(row["stage"] for row in rows)
    if stage is not None and stage not in stages:
        raise DataError(f"{run} has no evaluation of `{stage}`; it has {', '.join(stages)}")
    return Side(run, stage, rows)


def _how_to_evaluate(run: Path) -> str:
    """What gives a run evaluations: its evaluate stage, or one more in its recipe."""
    try:
        kinds = {stage.kind for stage in load_recipe(str(run / "recipe.yaml")).stages}
    except YonderError:
        kinds = {"evaluate"}
    if "evaluate" in kinds:
        return "run its evaluate stage first (`yonder evaluate RECIPE`)"
    return (
        "its recipe has no evaluate stage: add one (`{name: evaluation, kind: evaluate, checkpoints: [STAGE], "
        "benchmarks: [NAME]}`) and run the recipe again with `yonder run`, which skips its finished stages"
    )


def _pairs(a: Side, b: Side) -> list[tuple[Row, Row]]:
    """Rows of both on the same benchmark: of the stages asked for, else of the same name."""
    if a.run.resolve() == b.run.resolve() and (a.stage or b.stage) == (b.stage or a.stage):
        raise DataError(f"both sides are the same; name two stages: {a.run}:STAGE ({_have(a)})")
    found: list[tuple[Row, Row]] = []
    for row in a.rows:
        stage = a.stage or b.stage or row["stage"]
        if row["stage"] == (a.stage or stage):
            other = b.row(b.stage or stage, row["benchmark"])
            found += [(row, other)] if other is not None else []
    return found


def _have(side: Side) -> str:
    cells = [f"{row['stage']} on {row['benchmark']}" for row in side.rows]
    return f"{side.run} has {', '.join(cells[:6])}{', ...' if len(cells) > 6 else ''}"


def _compared(a: Side, b: Side, one: Row, other: Row, examples: int) -> list[dict[str, Any]]:
    name = one["benchmark"]
    questions = _questions(a.run, name)
    if len(one["correct"]) != len(other["correct"]) or not _same(one, other, questions, b.run):
        raise DataError(
            f"benchmark `{name}`: {a.run} and {b.run} did not answer the same questions; evaluate both with the same "
            "data, limit and seed"
        )
    head = {"benchmark": name, "stage_a": one["stage"], "stage_b": other["stage"], "warnings": _warnings(one, other)}
    rows: list[dict[str, Any]] = []
    for way, mine, theirs in ways(one, other):
        found = compare(mine, theirs)
        rows.append(head | {"way": way} | found.to_json() | {"examples": _examples(found, questions, examples)})
    return rows


def _warnings(*rows: Row) -> list[str]:
    """What a reader of the numbers must know: which questions the checkpoints were trained on."""
    notes = ((row["stage"], str((row.get("contamination") or {}).get("note") or "")) for row in rows)
    return list(dict.fromkeys(f"{stage}: {note}" for stage, note in notes if note))


def _same(one: Mapping[str, Any], other: Mapping[str, Any], questions: Sequence[Prompt] | None, run: Path) -> bool:
    """Whether two rows are about the same questions: by the hash that rows have, else by reading the data again."""
    if "questions" in one and "questions" in other:
        return one["questions"] == other["questions"]
    theirs = _questions(run, one["benchmark"])
    if questions is None or theirs is None:
        raise DataError(
            f"benchmark `{one['benchmark']}`: the data of one run cannot be read any more, so it is not known whether "
            "both answered the same questions; put the data back, or evaluate again"
        )
    return [(p.question, p.answer) for p in questions] == [(p.question, p.answer) for p in theirs]


def _questions(run: Path, benchmark: str) -> list[Prompt] | None:
    """The questions of a run's benchmark; None where its recipe or data cannot be read any more."""
    try:
        recipe: Recipe = load_recipe(str(run / "recipe.yaml"))
        return load_data(recipe.benchmarks[benchmark].data, recipe.data, recipe.task, recipe.seed)
    except (YonderError, KeyError):
        return None


def _examples(found: Comparison, questions: Sequence[Prompt] | None, count: int) -> list[dict[str, Any]]:
    """Some questions of each kind of flip, the first ones."""
    shown: list[dict[str, Any]] = []
    for right, places in (("b", found.only_b), ("a", found.only_a)):
        for place in places[:count]:
            prompt = questions[place] if questions is not None and place < len(questions) else None
            more = {} if prompt is None else {"id": prompt.id, "question": prompt.question, "answer": prompt.answer}
            shown.append({"right": right, "place": place} | more)
    return shown
