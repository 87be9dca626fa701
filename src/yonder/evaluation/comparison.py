"""Two rows of `evaluations.jsonl` on the same questions: what differs, how surely, and which questions flipped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.core.statistics import mcnemar, paired_difference, wilson
from yonder.errors import DataError
from yonder.schema import Interval

Row = dict[str, Any]  # a line of `evaluations.jsonl`
Verdicts = Sequence[bool | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """b against a, on the questions that could be scored for both."""

    a: Interval
    b: Interval
    difference: Interval  # b - a, paired
    p: float  # McNemar's exact two-sided test
    only_a: tuple[int, ...]  # places of the questions that a alone answers right
    only_b: tuple[int, ...]
    left_out: int  # questions that could not be scored for one of them

    def to_json(self) -> dict[str, Any]:
        """Plain values; the difference in percentage points. Without questions what is not known is null."""
        known = self.a.n > 0
        return {
            "n": self.a.n,
            "left_out": self.left_out,
            "a": {"accuracy": self.a.value if known else None, "low": self.a.low, "high": self.a.high},
            "b": {"accuracy": self.b.value if known else None, "low": self.b.low, "high": self.b.high},
            "difference": {
                "points": 100 * self.difference.value if known else None,
                "low": 100 * self.difference.low,
                "high": 100 * self.difference.high,
                "p": self.p if known else None,
            },
            "only_a": len(self.only_a),
            "only_b": len(self.only_b),
        }


def read_rows(run: Path) -> tuple[Row, ...]:
    """The evaluations of a run, or those that its evaluate stages have so far. DataError for a damaged line."""
    whole = run / "evaluations.jsonl"
    paths = [whole] if whole.is_file() else sorted(run.glob("stages/[!.]*/evaluations.jsonl"))
    rows: list[Row] = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                rows.append(row | {"stage": row["stage"], "benchmark": row["benchmark"]})
            except (ValueError, KeyError, TypeError) as error:
                mend = "delete the line, or evaluate again"
                raise DataError(f"{path}, line {number}: no evaluation ({error}); {mend}") from error
    return tuple(rows)


def compare(a: Verdicts, b: Verdicts) -> Comparison:
    """Compare verdicts on the same questions in the same order. ValueError when their numbers differ."""
    both = [i for i, pair in enumerate(zip(a, b, strict=True)) if None not in pair]
    mine, theirs = [bool(a[i]) for i in both], [bool(b[i]) for i in both]
    return Comparison(
        a=wilson(sum(mine), len(both)),
        b=wilson(sum(theirs), len(both)),
        difference=paired_difference(mine, theirs),
        p=mcnemar(mine, theirs),
        only_a=tuple(i for i in both if a[i] and not b[i]),
        only_b=tuple(i for i in both if b[i] and not a[i]),
        left_out=len(a) - len(both),
    )


def ways(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Verdicts, Verdicts]]:
    """(name, verdicts of a, of b) for every way in which two rows of `evaluations.jsonl` both answered."""
    found: list[tuple[str, Verdicts, Verdicts]] = [("greedy", a["correct"], b["correct"])]
    votes = a.get("vote"), b.get("vote")
    if votes[0] and votes[1] and votes[0]["samples"] == votes[1]["samples"]:
        found.append((f"vote@{votes[0]['samples']}", votes[0]["correct"], votes[1]["correct"]))
    return found
