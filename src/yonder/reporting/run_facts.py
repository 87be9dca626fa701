"""What the page says of each run as a whole: its stages, recipe and card; its notes; the figures at the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yonder.reporting.records import RunRecord
from yonder.reporting.redaction import redact_yaml
from yonder.reporting.tables import duration, percent, run_labels


def run_facts(label: str, run: RunRecord) -> dict[str, Any]:
    """What the page has of one run beside its results, without secrets in the recipe."""
    stages = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "status": stage.status,
            "seconds": stage.seconds,
            "made": None if stage.made is None else " ".join(stage.made),
            "ended": stage.ended,
            "result": stage.result,
        }
        for stage in run.stages
    ]
    total = sum(stage.seconds or 0 for stage in run.stages)
    return {
        "label": label,
        "title": run.title,
        "notes": list(run.notes),
        "seconds": total,
        "stages": stages,
        "recipe": redact_yaml(run.recipe),
        "card": run.card,
        "prompts": [{"key": key, "text": text} for key, text in _long_texts(run.card)],
    }


def shared_notes(runs: Sequence[RunRecord], first: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every note once, with the runs that say so; `runs` is empty where all do."""
    said: dict[str, list[str]] = {note: [] for note in first}
    for label, run in zip(run_labels(runs), runs, strict=True):
        for note in run.notes:
            said.setdefault(note, []).append(label)
    return [{"text": note, "runs": labels if len(labels) < len(runs) else []} for note, labels in said.items()]


def tiles(facts: dict[str, Any]) -> list[dict[str, str]]:
    """The few figures at the top of the page."""
    found = _sweep_tiles(facts) if facts["sweep"] else _run_tiles(facts)
    for check in facts["judge_checks"][:1]:
        if check["headline"]:
            found.append({**check["headline"], "note": check["stage"]})
    stages = [stage for run in facts["runs"] for stage in run["stages"]]
    once = {stage["made"] or at: stage for at, stage in enumerate(stages)}  # runs of a sweep share stages
    if stages:
        seconds = sum(stage["seconds"] or 0 for stage in once.values())
        note = (
            f"{len(once)} stage{'s' if len(once) > 1 else ''}{', shared ones once' if len(once) < len(stages) else ''}"
        )
        found.append({"value": duration(seconds), "label": "of work", "note": note})
    return found


def _run_tiles(facts: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for verdict in facts["verdicts"][:1]:
        label = f"best on {verdict['benchmark']}"
        found.append({"value": f"{percent(verdict['best']['value'])} %", "label": label, "note": verdict["stage"]})
        if verdict["difference"] or verdict["overlap"] is not None:
            apart = "intervals overlap" if verdict["overlap"] else "intervals apart"
            note = "{:.1f} to {:.1f}".format(*verdict["difference"][1:]) if verdict["difference"] else apart
            points = f"{verdict['points']:+.1f}"
            found.append({"value": points, "label": f"points over {verdict['first_stage']}", "note": note})
    return found


def _sweep_tiles(facts: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    sweep = facts["sweep"]
    for verdict in facts["verdicts"][:1]:
        label = f"best mean on {verdict['benchmark']}"
        found.append({"value": f"{percent(verdict['mean'])} %", "label": label, "note": verdict["row"]})
        if verdict["row"] != verdict["baseline"]:
            note = "interval excludes zero" if verdict["clear"] else "not told apart from chance"
            points = f"{verdict['points']:+.1f}"
            found.append({"value": points, "label": f"points over {verdict['baseline']}", "note": note})
    rows = len(sweep["rows"])
    note = f"{rows} row{'s' if rows != 1 else ''}"
    return [*found, {"value": f"{sweep['done']} of {sweep['total']}", "label": "runs finished", "note": note}]


def _long_texts(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every text of several lines in the card (judge prompts), with the path to it: JSON would show it on one line."""
    if isinstance(value, dict):
        return [
            pair for key, item in value.items() for pair in _long_texts(item, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list):
        return [pair for index, item in enumerate(value) for pair in _long_texts(item, f"{path}.{index}")]
    return [(path, value)] if isinstance(value, str) and "\n" in value.strip() else []
