"""`judge_check.json` (see `yonder.evaluation.judge_check`) as the page shows it; every part may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yonder.reporting.judge_figures import PAIRWISE, figure, figure_rows, mapping, text
from yonder.reporting.records import RunRecord, StageRecord, number
from yonder.reporting.tables import percent, run_labels

_COLUMNS = {  # of the tables: key, heading; shares are those that _SHARES names
    "source": "source",
    "characters": "characters",
    "outcome": "outcome",
    "reason": "reason",
    "kind": "kind",
    "pattern": "pattern",
    "fitting": "in fitting",
    "n": "n",
    "right": "right",
    "mean_score": "mean score",
    "accuracy": "accuracy",
    "false_positive_rate": "wrong ones liked",
    "false_negative_rate": "right ones disliked",
    "passed": "passed",
    "rate": "share passed",
    "interval": "95 %",
    "unscored": "unscored",
    "count": "responses",
}
_SHARES = {"accuracy", "false_positive_rate", "false_negative_rate", "rate"}
_WORST = 12  # patterns shown


def admission(check: Mapping[str, Any]) -> tuple[str, str]:
    """(pass, warn, fail, unmeasured or nothing; the reason as a sentence)."""
    inner = mapping(check.get("admission"))
    verdict = inner.get("verdict") or check.get("verdict") or ""
    why = str(inner.get("why") or check.get("sentence") or "")
    return str(verdict), why[:1].upper() + why[1:]


def judge_checks(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A view of each stage's judge check, in the runs' order."""
    labels = run_labels(runs)
    return [
        {"run": index, "stage": f"{labels[index]} · {stage.name}" if len(runs) > 1 else stage.name, **judge_view(stage)}
        for index, run in enumerate(runs)
        for stage in run.stages
        if stage.judge_check
    ]


def judge_view(stage: StageRecord) -> dict[str, Any]:
    """One check: verdict, figures, points of the reliability diagram, bars of the histogram, tables."""
    check = stage.judge_check or {}
    verdict, sentence = admission(check)
    figures = figure_rows(check)
    pairwise = next((figure for figure in figures if figure["label"] == PAIRWISE), None)
    reasons = [{"reason": reason, "count": count} for reason, count in mapping(check.get("reasons")).items()]
    lengths = [
        {**_slice(row), "characters": f"{row.get('low')}–{row.get('high')}"} for row in _rows(check.get("by_length"))
    ]
    outcomes = [_slice(row) for row in _rows(check.get("by_outcome"))]
    tables = (
        ("By source", _table(_rows(check.get("by_source")))),
        *attack_tables(mapping(check.get("attacks"))),
        ("Wrong responses by length", _table(lengths)),
        ("Wrong responses by outcome", _table(outcomes)),
        ("Why unscored", _table(reasons)),
    )
    return {
        "verdict": verdict,
        "sentence": sentence,
        "counts": _counts(check),
        "figures": figures,
        "fitted": _fitted(mapping(check.get("fitted"))),
        "headline": None
        if pairwise is None or verdict == "unmeasured"
        else {"value": pairwise["text"], "label": "of pairs: judge prefers the right one"},
        "reliability": _reliability(_rows(check.get("reliability"))),
        "histogram": _histogram(_numbers(check.get("histogram_right")), _numbers(check.get("histogram_wrong"))),
        "tables": [{"title": title, **table} for title, table in tables if table],
    }


def attack_tables(attacks: Mapping[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    """The attack suite by kind, with both totals below, and the patterns that pass most often."""
    totals = [
        {**row, "kind": name}
        for key, name in (("overall", "all kinds"), ("withheld", "withheld kinds"))
        if (row := mapping(attacks.get(key)))
    ]
    kinds = [
        {**row, "fitting": "withheld" if row.get("withheld") else "allowed"} for row in _rows(attacks.get("kinds"))
    ]
    fooling = [row for row in _rows(attacks.get("patterns")) if number(row.get("rate"))]
    worst = sorted(fooling, key=lambda row: -(number(row.get("rate")) or 0))[:_WORST]
    return [
        ("Attacks by kind", _table([_attack(row) for row in [*kinds, *totals]])),
        ("Attacks that pass most", _table([_attack(row) for row in worst])),
    ]


def _attack(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the suite with the interval as text; empty names are left out."""
    low, high = number(row.get("low")), number(row.get("high"))
    interval = None if low is None or high is None else f"{percent(low)}–{percent(high)}"
    return {key: value for key, value in row.items() if value != ""} | {"interval": interval}


def _counts(check: Mapping[str, Any]) -> str:
    n, right = number(check.get("n")), number(check.get("right"))
    if n is None:
        return ""
    said = f"Measured on {n:,.0f} labeled responses" + ("" if right is None else f", {right:,.0f} of them right")
    left = [f"{count:,.0f} {name}" for name in ("unscored", "unlabeled") if (count := number(check.get(name)))]
    sentences = [said + (f"; left out: {' and '.join(left)}." if left else ".")]
    sentences += [f"{row[:1].upper()}{row[1:]}." for row in map(str, check.get("known_from") or ())]
    return " ".join(sentences)


def _fitted(fitted: Mapping[str, Any]) -> str:
    """Which questions tau and delta were fitted on, and which the figures with them are of."""
    ours, others = number(fitted.get("fitted_on")), number(fitted.get("measured_on"))
    if not ours or not others or number(fitted.get("delta")) is None:
        return ""
    aimed = number(fitted.get("aimed_at"))
    aim = "" if aimed is None else f" (delta: the best that accepts at most {percent(aimed)} % of the wrong ones)"
    return f"Tau and delta are fitted on {ours:,.0f} questions{aim}; their figures are of the other {others:,.0f}."


def _slice(row: Mapping[str, Any]) -> dict[str, Any]:
    """A slice of the wrong responses, its rate and interval apart."""
    rate = mapping(row.get("false_positive_rate"))
    shown = figure(rate, share=True)
    return {
        "outcome": row.get("outcome"),
        "n": row.get("n"),
        "false_positive_rate": rate.get("value"),
        "interval": shown["interval"] if shown else None,
    }


def _reliability(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Points: mean score in the bin (x), share that is right (y), how many responses (n), and the dot's size."""
    points: list[dict[str, float]] = []
    for row in bins:
        x, y, n = number(row.get("mean_score")), number(row.get("share_right")), number(row.get("n"))
        if x is not None and y is not None:
            points.append({"x": min(1.0, max(0.0, x)), "y": min(1.0, max(0.0, y)), "n": n or 0})
    most = max((point["n"] for point in points), default=0) or 1
    return [{**point, "size": round(3 + 6 * (point["n"] / most) ** 0.5, 2)} for point in points]


def _histogram(right: Sequence[float], wrong: Sequence[float]) -> list[dict[str, float]]:
    """Bars over equal bins from 0 to 1: how many right and wrong, and their heights in per cent of the tallest."""
    bins, tallest = max(len(right), len(wrong)), max([*right, *wrong], default=0) or 1
    bars: list[dict[str, float]] = []
    for index in range(bins):
        good = right[index] if index < len(right) else 0.0
        bad = wrong[index] if index < len(wrong) else 0.0
        heights = {"right_height": round(100 * good / tallest, 2), "wrong_height": round(100 * bad / tallest, 2)}
        bars.append({"from": index / bins, "to": (index + 1) / bins, "right": good, "wrong": bad, **heights})
    return bars


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Rows as text cells; only columns that we know and that some row has."""
    columns = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    if not columns:
        return None
    return {
        "columns": [_COLUMNS[key] for key in columns],
        "rows": [[_cell(row.get(key), key in _SHARES) for key in columns] for row in rows],
    }


def _cell(value: Any, share: bool) -> str:
    plain = number(value)
    if plain is None:
        return "–" if value is None else str(value)
    return f"{percent(plain)} %" if share else text(plain, share=False)


def _rows(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _numbers(value: Any) -> list[float]:
    return [max(0.0, number(item) or 0.0) for item in value] if isinstance(value, list) else []
