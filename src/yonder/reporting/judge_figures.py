"""The one table of figures of a judge check: what a reader calls each, its value, its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yonder.reporting.records import number
from yonder.reporting.tables import percent

PAIRWISE = "right one preferred, of pairs"
_MAIN = (  # key in the file, what a reader calls it, shown in per cent
    ("pairwise", PAIRWISE, True),
    ("auroc", "AUROC", False),
    ("baseline.likelihood.pairwise", "right one preferred by likelihood (LL)", True),
    ("baseline.likelihood.auroc", "AUROC by likelihood (LL)", False),
    ("auprc", "AUPRC", False),
    ("delta", "delta", False),
    ("accuracy", "accuracy at delta", True),
    ("false_positive_rate", "wrong ones liked", True),
    ("false_negative_rate", "right ones disliked", True),
    ("brier", "Brier score", False),
    ("ece", "calibration error (ECE)", False),
    ("mass_mean", "mean mass on Yes and No", True),
)
_FITTED = (
    ("fitted.tau", "fitted tau", False),
    ("fitted.delta", "fitted delta", False),
    ("fitted.accuracy", "accuracy at fitted delta", True),
    ("fitted.false_positive_rate", "wrong ones liked at fitted delta", True),
    ("fitted.false_negative_rate", "right ones disliked at fitted delta", True),
    ("fitted.ece", "ECE at fitted tau", False),
)
_SPEED = (
    ("speed.verdicts_per_s", "verdicts a second", False),
    ("speed.tokens_per_s", "tokens a second", False),
    ("speed.cost", "cost", False),
)


def figure_rows(check: Mapping[str, Any]) -> list[dict[str, str]]:
    """Label, text and interval of each figure that the file has, in reading order."""
    rows = _rows(check, _MAIN)
    note = str(mapping(check.get("baseline")).get("note") or "")
    if note:
        why = note.removeprefix("not measured: ")
        rows.append({"label": f"likelihood (LL): {why}", "text": "not measured", "interval": ""})
    best = check.get("best_of")
    for row in best if isinstance(best, list) else []:
        rows += _best_of(mapping(row))
    return [*rows, *_rows(check, _FITTED), *_rows(check, _SPEED)]


def figure(value: Any, share: bool, signed: bool = False) -> dict[str, str] | None:
    """A number, or an interval, as text; None where there is none. `signed`: a difference, in points. Bounds without
    width are not shown."""
    inner = mapping(value)
    low, high = number(inner.get("low")), number(inner.get("high"))
    plain = number(inner.get("value") if inner else value)
    if plain is None:
        return None
    if low is None or high is None or high <= low:
        said = f"{plain:.3f}" if inner and not share else text(plain, share, signed)
        return {"text": said + (" points" if signed else " %" if share else ""), "interval": ""}
    if not share:
        return {"text": f"{plain:.3f}", "interval": f"{low:.3f}–{high:.3f}"}
    between, unit = (" to ", " points") if signed else ("–", " %")
    bounds = between.join(text(bound, share, signed) for bound in (low, high))
    return {"text": text(plain, share, signed) + unit, "interval": bounds}


def text(value: float, share: bool, signed: bool = False) -> str:
    """A number as a reader wants it; shares in per cent, without the sign for it."""
    if share:
        return ("+" if signed and value > 0 else "") + percent(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _rows(check: Mapping[str, Any], named: tuple[tuple[str, str, bool], ...]) -> list[dict[str, str]]:
    found = ((label, figure(_at(check, key), share)) for key, label, share in named)
    return [{"label": label, **one} for label, one in found if one is not None]


def _best_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    n = number(row.get("n"))
    chosen, lift, oracle = (
        figure(row.get("chosen"), True),
        figure(row.get("lift"), True, signed=True),
        figure(row.get("oracle"), True),
    )
    if n is None or chosen is None or lift is None:
        return []
    if number(mapping(row.get("oracle")).get("value")) == 0:
        return [{"label": f"best of {n:.0f}: no question has a right response", "text": "not measured", "interval": ""}]
    most = "" if oracle is None else f"; {oracle['text']} have a right one"
    return [
        {"label": f"right, of the best liked of {n:.0f}{most}", **chosen},
        {"label": f"lift, best of {n:.0f}", **lift},
    ]


def _at(check: Mapping[str, Any], key: str) -> Any:
    value: Any = check
    for part in key.split("."):
        value = mapping(value).get(part)
    return value
