"""One self-contained HTML page, and the same facts as JSON, from run directories."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from yonder.errors import StorageError
from yonder.reporting.charts import category_table, interval_chart
from yonder.reporting.curves import curves
from yonder.reporting.events import events
from yonder.reporting.judge_view import judge_checks
from yonder.reporting.records import RunRecord, read_run
from yonder.reporting.redaction import redact, redact_text, redact_yaml
from yonder.reporting.rollout_sample import Known, sample_rollouts
from yonder.reporting.stage_tables import found_by
from yonder.reporting.tables import (
    benchmarks_of,
    duration,
    percent,
    result_rows,
    results_table,
    run_labels,
    to_csv,
    to_markdown,
)
from yonder.reporting.verdict import Notice, notices, verdicts
from yonder.storage import write_whole

_SCRIPTS = ("dom.js", "charts.js", "curves.js", "rollouts.js", "page.js", "place.js")
_OUTSIDE_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_report(run_dirs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of one run, or of several side by side, and its JSON twin next to it; returns the page's path.

    Without `output`, one run's page is `report.html` in its directory, that of several in the folder
    that holds the first.
    """
    if not run_dirs:
        raise StorageError("there is no run to report on; give at least one run directory")
    folders = [Path(folder) for folder in run_dirs]
    runs = [read_run(folder) for folder in folders]
    if output is None:
        output = (folders[0] if len(folders) == 1 else folders[0].resolve().parent) / "report.html"
    facts = report_facts(runs)
    twin = output.with_suffix(".json")
    if twin == output:
        raise StorageError(f"{output} is the name of the page's JSON twin; give a name that ends in .html")
    write_whole(output, render(runs, facts, twin.name))
    write_whole(twin, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    return output


def report_facts(runs: Sequence[RunRecord], known: Known | None = None) -> dict[str, Any]:
    """Everything the page shows, without secrets, as JSON-like data; `known` as in `sample_rollouts`."""
    sample, unread = sample_rollouts(runs, known=known)
    found = notices(runs) + tuple(Notice("note", "rollout log", problem) for problem in dict.fromkeys(unread))
    facts = {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [_run_facts(label, run) for label, run in zip(run_labels(runs), runs, strict=True)],
        "verdicts": [verdict.to_json() for verdict in verdicts(runs)],
        "notices": [notice.to_json() for notice in found],
        "results": _result_facts(runs),
        "stage_tables": [table.to_json() for table in found_by(runs)],
        "curves": curves(runs),
        "judge_checks": judge_checks(runs),
        "events": events(runs),
    }
    facts = redact(facts)
    facts["rollouts"] = {
        "total": sample.total,
        "shown": len(sample.rows),
        "tally": sample.tally,
        "liked_wrongly": sample.liked_wrongly,
        "rows": sample.rows,
    }
    return facts


def render(runs: Sequence[RunRecord], facts: dict[str, Any], twin: str = "report.json") -> str:
    """The page as text; `twin` is the name of the JSON file that it points to."""
    web = files("yonder.reporting") / "web"
    vendor = files("yonder.reporting") / "vendor"
    script = "".join((web / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";(() => {{\n{script}\n}})();'
    library = (vendor / "uPlot.iife.min.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"page": (web / "template.html.j2").read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration, "pretty": _pretty}
    rows = result_rows(runs)
    benchmarks = benchmarks_of(rows)
    return environment.get_template("page").render(
        facts=facts,
        several=len(runs) > 1,
        benchmarks=benchmarks,
        charts=[interval_chart(rows, name) for name in benchmarks],
        categories=[table for name in benchmarks if (table := category_table(rows, name))],
        markdown=redact_text(to_markdown(results_table(runs))),
        csv=redact_text(to_csv(runs)),
        tops={name: max(row.cells[name].greedy.value for row in rows if name in row.cells) for name in benchmarks},
        twin=twin,
        tiles=_tiles(facts),
        style=(vendor / "uPlot.min.css").read_text(encoding="utf-8") + (web / "page.css").read_text(encoding="utf-8"),
        library=library,
        library_licence=(vendor / "LICENSE-uPlot.txt").read_text(encoding="utf-8"),
        script=script,
        hashes=" ".join(f"'sha256-{_digest(text)}'" for text in (library, script)),
        data=embed(facts_for_script(facts)),
    )


def facts_for_script(facts: dict[str, Any]) -> dict[str, Any]:
    """The part of the facts that the page's script draws; the rest is in the HTML already."""
    runs = [
        {"label": run["label"], "stages": [{"name": stage["name"], "kind": stage["kind"]} for stage in run["stages"]]}
        for run in facts["runs"]
    ]
    return {"runs": runs, "curves": facts["curves"], "rollouts": facts["rollouts"]}


def embed(value: Any) -> str:
    """JSON that is safe inside <script type="application/json">: nothing in it can end the element or start another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(_OUTSIDE_SCRIPT.get(letter, letter) for letter in text)


def _run_facts(label: str, run: RunRecord) -> dict[str, Any]:
    stages = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "status": stage.status,
            "seconds": stage.seconds,
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


def _result_facts(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    for row in result_rows(runs):
        cells = {
            name: {
                "accuracy": cell.greedy.value,
                "low": cell.greedy.low,
                "high": cell.greedy.high,
                "n": cell.greedy.n,
                "vote": None
                if cell.vote is None
                else {
                    "k": cell.votes,
                    "accuracy": cell.vote.value,
                    "low": cell.vote.low,
                    "high": cell.vote.high,
                    "n": cell.vote.n,
                },
            }
            for name, cell in row.cells.items()
        }
        facts.append({"run": row.run, "stage": row.stage, "cells": cells})
    return facts


def _tiles(facts: dict[str, Any]) -> list[dict[str, str]]:
    """The few figures at the top of the page."""
    tiles: list[dict[str, str]] = []
    for verdict in facts["verdicts"][:1]:
        best, points = verdict["best"], verdict["points"]
        tiles.append(
            {
                "value": f"{percent(best['value'])} %",
                "label": f"best on {verdict['benchmark']}",
                "note": verdict["stage"],
            }
        )
        if verdict["overlap"] is not None:
            note = "intervals overlap" if verdict["overlap"] else "intervals apart"
            tiles.append({"value": f"{points:+.1f}", "label": f"points over {verdict['first_stage']}", "note": note})
    for check in facts["judge_checks"][:1]:
        if check["headline"]:
            tiles.append({**check["headline"], "note": check["stage"]})
    seconds = sum(run["seconds"] for run in facts["runs"])
    stages = sum(len(run["stages"]) for run in facts["runs"])
    if stages:
        tiles.append(
            {"value": duration(seconds), "label": "of work", "note": f"{stages} stage{'s' if stages > 1 else ''}"}
        )
    return tiles


def _long_texts(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every text of several lines in the card (judge prompts), with the path to it: JSON would show it on one line."""
    if isinstance(value, dict):
        return [
            pair for key, item in value.items() for pair in _long_texts(item, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list):
        return [pair for index, item in enumerate(value) for pair in _long_texts(item, f"{path}.{index}")]
    return [(path, value)] if isinstance(value, str) and "\n" in value.strip() else []


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
