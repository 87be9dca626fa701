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
from yonder.reporting.charts import category_table, group_table, interval_chart
from yonder.reporting.curves import curves
from yonder.reporting.differences import differences
from yonder.reporting.events import events
from yonder.reporting.judge_view import judge_checks
from yonder.reporting.records import RunRecord, read_run
from yonder.reporting.redaction import redact, redact_text
from yonder.reporting.rollout_sample import Known, sample_rollouts
from yonder.reporting.run_facts import run_facts, shared_notes, tiles
from yonder.reporting.stage_tables import found_by
from yonder.reporting.sweep_view import sweep_facts, sweep_notices, sweep_verdicts, unbroken
from yonder.reporting.sweeps import SweepRecord, is_sweep, read_sweep
from yonder.reporting.tables import (
    benchmarks_of,
    contaminated,
    duration,
    percent,
    result_facts,
    result_rows,
    results_table,
    run_labels,
    to_csv,
    to_markdown,
)
from yonder.reporting.verdict import Notice, notices, verdicts
from yonder.storage import write_whole

_SCRIPTS = ("dom.js", "charts.js", "curves.js", "rollouts.js", "beside.js", "page.js", "place.js")
_TEMPLATES = ("page", "overview", "results", "sweep", "curves", "judge", "rollouts", "card", "parts")
_OUTSIDE_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_report(run_dirs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of one run, of several side by side or of a sweep, and its JSON twin; returns the page's path.

    A sweep is a folder with `sweep.json`, given alone. Without `output`, the page of one run or of a sweep is
    `report.html` in its directory, that of several runs in the folder that holds the first.
    """
    if not run_dirs:
        raise StorageError("there is no run to report on; give at least one run directory")
    folders = [Path(folder) for folder in run_dirs]
    runs, sweep = read_folders(folders)
    if output is None:
        output = (folders[0] if len(folders) == 1 else folders[0].resolve().parent) / "report.html"
    facts = report_facts(runs, sweep)
    twin = output.with_suffix(".json")
    if twin == output:
        raise StorageError(f"{output} is the name of the page's JSON twin; give a name that ends in .html")
    write_whole(output, render(runs, facts, twin.name))
    write_whole(twin, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    return output


def read_folders(folders: Sequence[Path]) -> tuple[list[RunRecord], SweepRecord | None]:
    """The runs in these folders, and the sweep where the one folder is that of a sweep."""
    if len(folders) == 1 and is_sweep(folders[0]):
        sweep, runs = read_sweep(folders[0])
        return runs, sweep
    for folder in folders:
        if is_sweep(folder):
            raise StorageError(f"{folder} is a sweep; give it alone, or give the folders of its runs")
    return [read_run(folder) for folder in folders], None


def report_facts(
    runs: Sequence[RunRecord], sweep: SweepRecord | None = None, known: Known | None = None
) -> dict[str, Any]:
    """Everything the page shows, without secrets, as JSON-like data; of a sweep and its runs where one is given.

    `known` as in `sample_rollouts`.
    """
    sample, unread = sample_rollouts(runs, known=known)
    found = [*(sweep_notices(sweep) if sweep else ()), *notices(runs)]
    found += [Notice("note", "rollout log", problem) for problem in dict.fromkeys(unread)]
    labels = run_labels(runs)
    facts = {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweep": sweep_facts(sweep) if sweep else None,
        "runs": [run_facts(label, run) for label, run in zip(labels, runs, strict=True)],
        "groups": [row.name for row in sweep.rows] if sweep else list(labels),
        "group_of": [sweep.row_of(index) or 0 for index in range(len(runs))] if sweep else list(range(len(runs))),
        "verdicts": sweep_verdicts(sweep) if sweep else [verdict.to_json() for verdict in verdicts(runs)],
        "notices": [notice.to_json() for notice in found],
        "notes": shared_notes(runs, sweep.notes if sweep else ()),
        "results": result_facts(result_rows(runs)),
        "stage_tables": [table.to_json() for table in found_by(runs)],
        "differences": differences(runs) if sweep is None else None,
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
    templates = {name: (web / f"{name}.html.j2").read_text(encoding="utf-8") for name in _TEMPLATES}
    environment = Environment(
        loader=DictLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "duration": duration, "pretty": _pretty, "unbroken": unbroken}
    rows = result_rows(runs)
    benchmarks = benchmarks_of(rows)
    tables = [table(rows, name) for name in benchmarks for table in (category_table, group_table)]
    return environment.get_template("page").render(
        facts=facts,
        sweep=facts["sweep"],
        several=len(runs) > 1,
        benchmarks=benchmarks,
        charts=[] if facts["sweep"] else [interval_chart(rows, name) for name in benchmarks],
        categories=[table for table in tables if table],
        contaminated=contaminated(rows),
        markdown=redact_text(to_markdown(results_table(runs))),
        csv=redact_text(to_csv(runs)),
        tops={name: max(row.cells[name].greedy.value for row in rows if name in row.cells) for name in benchmarks},
        twin=twin,
        tiles=tiles(facts),
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
    kept = {key: facts[key] for key in ("groups", "group_of", "curves", "rollouts")}
    return {"runs": runs, "sweep": facts["sweep"] is not None, **kept}


def embed(value: Any) -> str:
    """JSON that is safe inside <script type="application/json">: nothing in it can end the element or start another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(_OUTSIDE_SCRIPT.get(letter, letter) for letter in text)


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
