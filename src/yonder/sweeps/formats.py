"""The table of `sweep.json` as Markdown, CSV and LaTeX; accuracies in per cent, differences in points."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yonder.storage import write_whole

Cell = Mapping[str, Any]


def write_tables(folder: Path, sweep: Mapping[str, Any]) -> None:
    """`table.md`, `table.csv` and `table.tex`."""
    write_whole(folder / "table.md", markdown(sweep))
    write_whole(folder / "table.csv", as_csv(sweep))
    write_whole(folder / "table.tex", latex(sweep))


def grid_of(sweep: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table as people read it: a line a row and checkpoint, a column a benchmark and, where
    there is a baseline, one for the difference to it."""
    table = sweep["table"]
    lines = _lines(sweep)
    several = len({line for line, _ in lines}) < len(lines)
    against = any(cell["difference"] is not None for cell in table["cells"])
    head = ["row", *(["checkpoint"] if several else []), "seeds"]
    for name in table["benchmarks"]:
        head += [name, *(["difference"] if against else [])]
    rows: list[list[str]] = []
    for line, checkpoint in lines:
        cells = {c["benchmark"]: c for c in table["cells"] if (c["row"], c["checkpoint"]) == (line, checkpoint)}
        reported = next(row for row in sweep["rows"] if row["name"] == line).get("reported", {})
        row = [line, *([checkpoint or ""] if several else []), _seeds(sweep, line, cells.values())]
        for name in table["benchmarks"]:
            row += [accuracy(cells.get(name), reported.get(name))]
            row += [points(cells.get(name), sweep["baseline"])] if against else []
        rows.append(row)
    return head, rows


def accuracy(cell: Cell | None, reported: float | None = None) -> str:
    """`55.4 ± 1.2 (52.1 to 58.8)`, and what a paper reports in brackets."""
    text = "" if reported is None else f"[{reported:.2f}]"
    if cell is None or cell["mean"] is None:
        return text
    spread = "" if cell["std"] is None else f" ± {100 * cell['std']:.1f}"
    interval = "" if cell["low"] is None else f" ({100 * cell['low']:.1f} to {100 * cell['high']:.1f})"
    return f"{100 * cell['mean']:.1f}{spread}{interval} {text}".rstrip()


def points(cell: Cell | None, baseline: str | None) -> str:
    """`+4.1 (1.0 to 7.2), p 0.02`, and against which row where that is not `baseline`."""
    found = None if cell is None else cell["difference"]
    if found is None:
        return ""
    p = "" if found["p"] is None else ", p < 0.001" if found["p"] < 0.001 else f", p {found['p']:.2g}"
    against = "" if found["against"] == baseline else f", against {found['against']}"
    return f"{found['points']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f}){p}{against}"


def markdown(sweep: Mapping[str, Any]) -> str:
    """A table with its title, notes and what is missing."""
    head, rows = grid_of(sweep)
    lines = [f"**{sweep['title']}**", ""] if sweep["title"] else []
    for row in [head, ["---"] * len(head), *rows]:
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
    return "\n".join([*lines, "", *(f"- {line}" for line in legend(sweep))]) + "\n"


def legend(sweep: Mapping[str, Any]) -> list[str]:
    """What the numbers are, the sweep's notes, and which runs are missing."""
    counts = {len(cell["seeds"]) for cell in sweep["table"]["cells"]}
    several = max(counts, default=1) > 1
    over = "questions and seeds" if several else "questions"
    said = "mean ± standard deviation over seeds" if several else "accuracy"
    lines = [f"Per cent: {said} (95 % interval over {over})."]
    if any(cell["difference"] is not None for cell in sweep["table"]["cells"]):
        of = f" to {sweep['baseline']}" if sweep["baseline"] else ""
        lines.append(f"Difference in points{of}, paired over {over}, with 95 % interval.")
    apart = [
        cell["benchmark"] for cell in sweep["table"]["cells"] if len(cell["seeds"]) > 1 and not cell["same_questions"]
    ]
    if apart:
        names = ", ".join(dict.fromkeys(apart))
        lines.append(f"{names}: each seed asks questions of its own, so intervals there are of the seeds' means alone.")
    if several and 1 in counts:
        lines.append("Rows of one seed have intervals over questions alone, which leave out what another seed changes.")
    if any(row.get("reported") for row in sweep["rows"]):
        lines.append("In square brackets: what the paper reports.")
    lines += [*_warnings(sweep), *map(str, sweep["notes"])]
    for status in ("failed", "running", "pending"):
        names = [
            f"{row['name']}, seed {run['seed']}"
            for row in sweep["rows"]
            for run in row["runs"]
            if run["status"] == status
        ]
        if names:
            lines.append(f"{status.capitalize()}: {'; '.join(names)}.")
    return lines


def as_csv(sweep: Mapping[str, Any]) -> str:
    """One line a cell, shares as they are, unrounded; an empty field is not known."""
    fields = ["row", "checkpoint", "benchmark", "seeds", "values", "mean", "std", "low", "high", "n"]
    more = ["points", "low", "high", "p", "against"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fields, *(f"difference_{name}" for name in more)])
    for cell in sweep["table"]["cells"]:
        found = cell["difference"] or {}
        values = [json.dumps(cell[name]) if isinstance(cell[name], list) else cell[name] for name in fields]
        writer.writerow([*values, *(found.get(name) for name in more)])
    return text.getvalue()


def latex(sweep: Mapping[str, Any]) -> str:
    """A tabular with booktabs' rules."""
    head, rows = grid_of(sweep)
    lines = [*_comment(sweep["title"]), f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule"]
    lines += [" & ".join(map(_tex, head)) + " \\\\", "\\midrule"]
    lines += [" & ".join(map(_tex, row)) + " \\\\" for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, *(said for line in legend(sweep) for said in _comment(line))]) + "\n"


_TEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%#_{}$"}
    | {"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}"}
    | {"±": "$\\pm$", "<": "$<$", ">": "$>$", "\n": " "}
)


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _comment(text: str) -> list[str]:
    return [f"% {line}" for line in text.splitlines()]


def _warnings(sweep: Mapping[str, Any]) -> list[str]:
    """What a reader of a number must know, each once, with the rows that it is about."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for cell in sweep["table"]["cells"]:
        for warning in cell["warnings"]:
            rows.setdefault((cell["benchmark"], warning), {})[cell["row"]] = None
    return [f"{benchmark} ({', '.join(names)}): {warning}." for (benchmark, warning), names in rows.items()]


def _lines(sweep: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """(row, checkpoint) in order; a row without results has one line."""
    found: list[tuple[str, str | None]] = []
    for row in sweep["rows"]:
        cells = [cell for cell in sweep["table"]["cells"] if cell["row"] == row["name"]]
        found += [(row["name"], name) for name in dict.fromkeys(cell["checkpoint"] for cell in cells)] or [
            (row["name"], None)
        ]
    return found


def _seeds(sweep: Mapping[str, Any], row: str, cells: Sequence[Cell] | Any) -> str:
    """How many seeds the numbers have, of how many."""
    of = len(next(found for found in sweep["rows"] if found["name"] == row)["runs"])
    have = min((len(cell["seeds"]) for cell in cells), default=0)
    return str(of) if have == of else f"{have} of {of}"
