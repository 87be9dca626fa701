"""In which settings runs differ: the recipes' keys with unequal values, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from yonder.reporting.records import RunRecord
from yonder.reporting.redaction import redact_yaml
from yonder.reporting.tables import run_labels

MOST = 60  # keys shown
LONGEST = 120  # characters of a value


def differences(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """{columns, rows, more}: one row a key whose value differs; None for a single run or unreadable recipes."""
    flat = [dict(_flatten(_parse(redact_yaml(run.recipe)))) for run in runs]
    if len(runs) < 2 or not all(flat):
        return None
    known = dict.fromkeys(key for one in flat for key in one if key != "output_dir")
    keys = [key for key in known if len({one.get(key) for one in flat}) > 1]
    rows = [[key, *(_short(one.get(key)) for one in flat)] for key in keys[:MOST]]
    return {"columns": ["key", *run_labels(runs)], "rows": rows, "more": max(0, len(keys) - MOST)}


def _parse(recipe: str) -> Any:
    try:
        return yaml.safe_load(recipe)
    except yaml.YAMLError:
        return None


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as JSON); items of a list are called by their `name` where they have one, else by place."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            name = item.get("name") if isinstance(item, dict) else None
            yield from _flatten(item, f"{path}.{name if isinstance(name, str) else index}")
    elif path:
        yield path, json.dumps(value, ensure_ascii=False, default=str)


def _short(value: str | None) -> str:
    if value is None:
        return "–"
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
