"""The judge check (`judge_check.json`) as the page shows it; every part may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yonder.reporting.records import RunRecord, number
from yonder.reporting.tables import percent

_FIGURES = (  # names in the file, what a reader calls it, whether it is a share
    (("pairwise_accuracy", "pairwise"), "Pairwise accuracy", True),
    (("auroc",), "AUROC", False),
    (("accuracy", "accuracy_at_delta"), "Accuracy at delta", True),
    (("false_positive_rate", "fpr"), "Wrong ones it likes", True),
    (("false_negative_rate", "fnr"), "Right ones it dislikes", True),
    (("ece",), "Calibration error (ECE)", False),
    (("delta",), "delta", False),
    (("suggested_delta",), "suggested delta", False),
    (("tau",), "tau", False),
    (("suggested_tau",), "suggested tau", False),
)
_WORDS = {
    "n": "n",
    "n_right": "right",
    "n_wrong": "wrong",
    "accuracy": "accuracy",
    "mean": "mean score",
    "mean_score": "mean score",
    "fpr": "wrong, liked",
    "fnr": "right, disliked",
    "false_positive_rate": "wrong, liked",
    "false_negative_rate": "right, disliked",
}
_SHARES = {"accuracy", "fpr", "fnr", "false_positive_rate", "false_negative_rate", "share", "pairwise", "pairwise_accuracy"}


def judge_checks(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A view of each stage's judge check: figures, reliability points, histogram bars, tables by source and by length."""
    found: list[dict[str, Any]] = []
    for run_index, run in enumerate(runs):
        for stage in run.stages:
            if stage.judge_check:
                label = f"{run.name} · {stage.name}" if len(runs) > 1 else stage.name
                found.append({"run": run_index, "stage": label, **judge_view(stage.judge_check)})
    return found


def judge_view(check: Mapping[str, Any]) -> dict[str, Any]:
    """One check. Names are looked up at the top and one level down ("suggested": {"tau": ...} is `suggested_tau`)."""
    flat = _flatten(check)
    figures = [
        {"label": label, **figure} for names, label, share in _FIGURES if (figure := _figure(flat, names, share)) is not None
    ]
    headline = next((figure for figure in figures if figure["label"] in ("Pairwise accuracy", "AUROC")), None)
    verdict = check.get("verdict") or check.get("admission")
    return {
        "reward": str(check.get("reward") or "judge"),
        "verdict": str(verdict or ""),
        "sentence": str(check.get("sentence") or ""),
        "figures": figures,
        "headline": None if headline is None else {"value": headline["text"], "label": f"judge, {headline['label']}"},
        "reliability": _reliability(_first(check, "reliability", "bins", "reliability_bins")),
        "histogram": _histogram(_first(check, "histogram", "histograms")),
        "tables": [
            {"title": title, **table}
            for title, name in (("By source", "by_source"), ("By length", "by_length"))
            if (table := _table(check.get(name))) is not None
        ],
    }


def _flatten(check: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(check)
    for outer in ("suggested", "suggestion", "at_delta", "calibration"):
        for key, value in _dict(check.get(outer)).items():
            flat.setdefault(f"suggested_{key}" if outer.startswith("sugg") else key, value)
    return flat


def _figure(flat: Mapping[str, Any], names: Sequence[str], share: bool) -> dict[str, str] | None:
    value = next((flat[name] for name in names if flat.get(name) is not None), None)
    low = high = None
    if isinstance(value, Mapping):
        low, high = number(value.get("low")), number(value.get("high"))
        value = next((value[key] for key in ("value", "accuracy", "estimate") if value.get(key) is not None), None)
    plain = number(value)
    if plain is None:
        return None
    interval = "" if low is None or high is None else f"{_number_text(low, share)}–{_number_text(high, share)}"
    return {"text": _number_text(plain, share) + (" %" if share else ""), "interval": interval}


def _reliability(bins: Any) -> list[dict[str, float]]:
    """Points: mean score in the bin (x), share that is right (y), and how many responses (n)."""
    points: list[dict[str, float]] = []
    for item in bins if isinstance(bins, list) else []:
        item = _dict(item)
        low, high = number(item.get("low")), number(item.get("high"))
        middle = None if low is None or high is None else (low + high) / 2
        x = _pick(item, "mean_score", "mean", "score", "confidence", "predicted")
        y = _pick(item, "accuracy", "right", "share_right", "observed", "fraction_right", "correct")
        n = _pick(item, "n", "count", "size")
        x = middle if x is None else x
        if x is not None and y is not None and n != 0:
            points.append({"x": x, "y": min(1.0, y), "n": n or 0})
    most = max((point["n"] for point in points), default=0) or 1
    return [{**point, "size": round(3 + 7 * (point["n"] / most) ** 0.5, 2)} for point in points]


def _histogram(value: Any) -> list[dict[str, float]]:
    """Bars: from, to, how many right and wrong, and their heights in per cent of the tallest."""
    bars: list[dict[str, float]] = []
    if isinstance(value, Mapping):
        right, wrong = _numbers(value.get("right")), _numbers(value.get("wrong"))
        count = max(len(right), len(wrong))
        edges = _numbers(value.get("edges") or value.get("bins")) or [index / count for index in range(count + 1)] if count else []
        for index in range(min(count, len(edges) - 1)):
            bars.append({"from": edges[index], "to": edges[index + 1], "right": _at(right, index), "wrong": _at(wrong, index)})
    for item in value if isinstance(value, list) else []:
        item = _dict(item)
        low, high = _pick(item, "low", "from"), _pick(item, "high", "to")
        if low is not None and high is not None:
            right, wrong = _pick(item, "right", "n_right") or 0.0, _pick(item, "wrong", "n_wrong") or 0.0
            bars.append({"from": low, "to": high, "right": right, "wrong": wrong})
    tallest = max((max(bar["right"], bar["wrong"]) for bar in bars), default=0) or 1
    return [
        {**bar, "right_height": round(100 * bar["right"] / tallest, 2), "wrong_height": round(100 * bar["wrong"] / tallest, 2)}
        for bar in bars
    ]


def _table(value: Any) -> dict[str, Any] | None:
    """Rows of any dictionaries as text cells: {"name": {...}} or [{"source": "name", ...}]."""
    if isinstance(value, Mapping):
        rows = [{"": name, **(item if isinstance(item, dict) else {"n": item})} for name, item in value.items()]
    else:
        rows = [dict(item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not rows:
        return None
    return {
        "columns": [_WORDS.get(column, column.replace("_", " ")) for column in columns],
        "rows": [[_cell(column, row.get(column)) for column in columns] for row in rows],
    }


def _cell(column: str, value: Any) -> str:
    if isinstance(value, Mapping):
        low, high, value = number(value.get("low")), number(value.get("high")), value.get("value", value.get("accuracy"))
        interval = "" if low is None or high is None else f" [{percent(low)}–{percent(high)}]"
        return _cell(column, value) + interval
    plain = number(value)
    if plain is None:
        return "–" if value is None else str(value)
    return f"{percent(plain)} %" if column in _SHARES else _number_text(plain, False)


def _number_text(value: float, share: bool) -> str:
    if share:
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _pick(item: Mapping[str, Any], *names: str) -> float | None:
    return next((found for name in names if (found := number(item.get(name))) is not None), None)


def _first(check: Mapping[str, Any], *names: str) -> Any:
    return next((check[name] for name in names if check.get(name)), None)


def _numbers(value: Any) -> list[float]:
    return [number(item) or 0.0 for item in value] if isinstance(value, list) else []


def _at(values: Sequence[float], index: int) -> float:
    return values[index] if index < len(values) else 0.0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
