"""A run, or several, drawn for a terminal of any width, and as plain lines for a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from yonder.reporting.tables import duration, percent
from yonder.watching.live import clock_time, progress_text
from yonder.watching.state import Figure, RunState, StageState, plain

_NARROW = 64  # columns below which the small charts are left out
_CHART = 32  # columns of a small chart
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%#"
_MARKS = {"done": "✓", "running": "▶", "unfinished": "◦", "waiting": "·"}
_ASCII_MARKS = {"done": "x", "running": ">", "unfinished": "o", "waiting": "."}
_COLOURS = {"done": "green", "running": "cyan", "quiet": "yellow", "unfinished": "yellow", "waiting": "dim"}
_FEW = 6  # stages above which the finished and the waiting ones are counted only
_RESULTS = 12  # rows of results


def screen(states: Sequence[RunState], waiting: str, width: int, ascii_only: bool = False) -> RenderableType:
    """What the view shows; `waiting` is said while there is no run."""
    if not states:
        return Text(waiting, style="dim")
    ending = Text("q or Ctrl-C ends this view; the run goes on", style="dim")
    if len(states) > 1:
        return Group(_runs_table(states, width), Text(), ending)
    return Group(*_one_run(states[0], width, ascii_only), Text(), ending)


def line(state: RunState) -> str:
    """A run in one line: where it is, and the last value of each figure."""
    figures = "  ".join(f"{figure.name} {shown(figure)}" for figure in state.figures)
    where = f"done, {clock_time(state.written)}" if state.state == "done" else progress_text(state)
    quiet = f"  (nothing was written since {clock_time(state.written)})" if state.state == "quiet" else ""
    found = [f"{stage} on {benchmark} {percent(value)} %" for stage, benchmark, value in state.results[-_RESULTS:]]
    return "  ".join([where + quiet, *(found if state.state == "done" else [figures] if figures else [])])


def shown(figure: Figure) -> str:
    """The last value as a reader wants it."""
    value = figure.values[-1]
    return f"{percent(value)} %" if figure.share else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def spark(values: Sequence[float], width: int, blocks: str = _BLOCKS) -> str:
    """The values as a row of at most `width` blocks, each the mean of its share of them."""
    if not values:
        return ""
    count = min(width, len(values))
    parts = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    top = len(blocks) - 1
    return "".join(blocks[round(top * (mean - low) / (high - low)) if high > low else top // 2] for mean in means)


def _one_run(state: RunState, width: int, ascii_only: bool) -> list[RenderableType]:
    head = Text.assemble((state.title, "bold"), "  ", (state.state, _COLOURS.get(state.state, "")))
    if state.state != "running":
        head.append(f"  last written {clock_time(state.written)}", "dim")
    parts: list[RenderableType] = [head, Text(str(state.path), style="dim", overflow="ellipsis", no_wrap=True), Text()]
    parts.append(_stages_table(state.stages, width, ascii_only))
    if state.current is not None and state.figures:
        parts += [Text(), Text(state.current.name, style="bold"), _figures_table(state.figures, width, ascii_only)]
    if state.results:
        parts += [Text(), _results_table(state)]
    if state.trips:
        parts += [Text(), Text(f"{len(state.trips)} trips of the monitor; the last ones:", style="bold")]
        parts += [Text(trip[:400], style="yellow") for trip in state.trips[-3:]]
    if state.liked_wrongly is not None:
        score, question, response = state.liked_wrongly
        parts += [Text(), Text(f"Liked wrongly, {score:.2f}", style="bold")]
        parts += [Text(question[:300]), Text(response[-300:], style="dim")]
    return parts


def _stages_table(stages: Sequence[StageState], width: int, ascii_only: bool) -> RenderableType:
    marks = _ASCII_MARKS if ascii_only else _MARKS
    table = Table.grid(padding=(0, 2))
    short = len(stages) > _FEW
    kept = [stage for stage in stages if not short or stage.status in ("running", "unfinished")]
    for stage in kept or list(stages[-1:]):
        took = "" if stage.status == "waiting" else duration(stage.seconds) if stage.status == "done" else ""
        left = "" if stage.left_s is None else f"about {duration(stage.left_s)} left"
        counted = (
            "" if stage.step is None else f"{stage.unit} {stage.step}" + (f" of {stage.steps}" if stage.steps else "")
        )
        style = _COLOURS.get(stage.status, "")
        words = [Text(stage.kind, style="dim"), Text(stage.status, style=style)] if width >= _NARROW else []
        mark = Text(marks[stage.status], style=style)
        table.add_row(mark, Text(plain(stage.name)), *words, Text(counted), Text(took or left))
    if not short:
        return table
    done, waiting = (sum(stage.status == status for stage in stages) for status in ("done", "waiting"))
    return Group(Text(f"{len(stages)} stages: {done} done, {waiting} waiting", style="dim"), table)


def _figures_table(figures: Sequence[Figure], width: int, ascii_only: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for figure in figures:
        cells = [Text(figure.name), Text(shown(figure), style="bold")]
        if width >= _NARROW:
            blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
            cells.append(Text(spark(figure.values, _CHART, blocks), style="cyan", no_wrap=True))
        table.add_row(*cells)
    return table


def _results_table(state: RunState) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage, benchmark, accuracy in state.results[-_RESULTS:]:
        table.add_row(Text(stage), Text(benchmark, style="dim"), Text(f"{percent(accuracy)} %", style="bold"))
    return table


def _runs_table(states: Sequence[RunState], width: int) -> Table:
    """One row a run; narrow terminals get fewer columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=False)
    wide = width >= 100
    for name in ("run", "state", "where", *(("figures",) if wide else ()), "accuracy", "age"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, justify="right" if name == "accuracy" else "left")
    for state in states:
        figures = "  ".join(f"{figure.name} {shown(figure)}" for figure in state.figures[:3])
        cells = [
            Text(plain(state.label)),
            Text(state.state, style=_COLOURS.get(state.state, "")),
            Text("" if state.state == "done" else progress_text(state)),
            *((Text(figures if state.state != "done" else ""),) if wide else ()),
            Text(last_accuracy(state)),
            Text(age(state.written)),
        ]
        table.add_row(*cells)
    return table


def last_accuracy(state: RunState) -> str:
    """Of the last checkpoint on the last benchmark; before that, on the development questions."""
    if state.results:
        return f"{percent(state.results[-1][2])} %"
    found = [figure for figure in state.figures if figure.name == "accuracy"]
    return shown(found[0]) if found else ""


def age(written: float, now: float | None = None) -> str:
    """How long ago: 40 s, 3 min, 2 h 05 min, 3 days; empty where nothing was written."""
    if not written:
        return ""
    seconds = max(0.0, (time.time() if now is None else now) - written)
    return f"{seconds / 86400:.0f} days" if seconds >= 2 * 86400 else duration(float(round(seconds)))
