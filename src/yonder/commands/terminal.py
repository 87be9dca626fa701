"""Progress for people: a live bar in a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from yonder.evaluation.benchmarks import accuracy_text
from yonder.reporting.stage_tables import Found, stage_tables
from yonder.sweeps.formats import grid_of, legend
from yonder.training.progress import Silent

PLAIN_EVERY_S = 15.0
PIPE_WIDTH = 200  # columns of a table where nobody's window limits it


def _whole() -> Column:
    """A column that gives up no width while others can."""
    return Column(no_wrap=True)


class _Facts(ProgressColumn):
    """The figures of the loop, on one line: they take what the other columns leave, and are cut there."""

    def render(self, task: Task) -> Text:
        """The text of a bar's `facts`."""
        return Text(task.fields["facts"], style="cyan", no_wrap=True, overflow="ellipsis")


class TerminalProgress:
    """Draws one bar for the loop that runs; `say` prints lines that stay. Everything goes to standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("[bold]{task.description}", table_column=_whole()),
            BarColumn(bar_width=24, table_column=_whole()),
            MofNCompleteColumn(table_column=_whole()),
            TimeElapsedColumn(table_column=_whole()),
            TextColumn("left", table_column=_whole()),
            TimeRemainingColumn(table_column=_whole()),
            _Facts(),
            console=self.console,
        )
        self._task: TaskID | None = None

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Show a new bar."""
        self._task = self._bars.add_task(escape(title), total=total, completed=done, facts="")
        self._bars.start()

    def advance(self, done: int, facts: dict[str, str]) -> None:
        """Move the bar."""
        if self._task is not None:
            text = "  ".join(f"{name} {value}" for name, value in facts.items())
            self._bars.update(self._task, completed=done, facts=text)

    def finish(self) -> None:
        """Leave the finished bar on the screen."""
        self._bars.stop()
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self.console.print(escape(message), highlight=False, soft_wrap=True)


class PlainProgress:
    """Prints a line now and then: for logs, pipes and schedulers."""

    def __init__(self) -> None:
        self._title, self._total, self._first = "", 0, 0
        self._started = self._printed = 0.0

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Say that a loop begins."""
        self._title, self._total, self._first = title, total, done
        self._started = self._printed = time.monotonic()
        self._print(f"{title}: {done}/{total}")

    def advance(self, done: int, facts: dict[str, str]) -> None:
        """Say where it is, every quarter of a minute and at the end."""
        now = time.monotonic()
        if now - self._printed < PLAIN_EVERY_S and done < self._total:
            return
        self._printed = now
        left = (now - self._started) / max(1, done - self._first) * (self._total - done)
        text = "  ".join(f"{name} {value}" for name, value in facts.items())
        self._print(f"{self._title}: {done}/{self._total}  left {left:.0f} s  {text}".rstrip())

    def finish(self) -> None:
        """Nothing: the last line said it."""

    def say(self, message: str) -> None:
        """Print a line."""
        self._print(message)

    def _print(self, text: str) -> None:
        print(f"{text}\n", end="", file=sys.stderr, flush=True)  # one write: other processes write there too


class Lines(Silent):
    """What is said as plain lines on standard error, and no bars."""

    def say(self, message: str) -> None:
        """Print a line."""
        print(f"{message}\n", end="", file=sys.stderr, flush=True)


def print_results(summary: Mapping[str, Any]) -> None:
    """The results table and where the page is, to standard output."""
    console = output()
    benchmarks = list(dict.fromkeys(name for row in summary["results"].values() for name in row))
    if benchmarks:
        table = Table(title=escape(summary["title"] or summary["run_dir"]), title_justify="left")
        table.add_column("stage")
        for name in benchmarks:
            table.add_column(name, justify="right")
        for stage, row in summary["results"].items():
            table.add_row(stage, *(accuracy_text(row[name]) if name in row else "" for name in benchmarks))
        console.print(table)
    _print_stage_tables(console, summary["stages"])
    for note in summary["notes"]:
        console.print(f"note: {escape(note)}", highlight=False)
    console.print(f"page: {escape(str(Path(summary['run_dir']) / 'report.html'))}", highlight=False, soft_wrap=True)


def _print_stage_tables(console: Console, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """What stages of reward distillation found: in a sentence where there is one, else in a table."""
    for found in stage_tables([Found(name, stage.get("kind", ""), stage) for name, stage in stages.items()]):
        if found.lead:
            console.print(f"{found.title}: {found.lead}", highlight=False, markup=False, soft_wrap=True)
        elif not found.part:
            table = Table(title=escape(found.title), title_justify="left")
            for index, name in enumerate(found.columns[: found.first]):
                table.add_column(escape(name), justify="right" if index else "left")
            for row in found.rows:
                table.add_row(*map(escape, row[: found.first]))
            console.print(table)
            for note in found.notes:
                console.print(note, highlight=False, markup=False, soft_wrap=True)


def print_plan(found: Mapping[str, Any]) -> None:
    """What each stage needs and whether it fits, to standard output."""
    console = output()
    machine = found["machine"]
    where = f"{machine['devices']} x {machine['memory'] / 1e9:.1f} GB"
    console.print(
        f"planned for {where}{', offloaded' if machine['offload'] else ''}; {machine['speed']}", highlight=False
    )
    for stage in found["stages"]:
        table = Table(title=f"{escape(stage['stage'])} ({stage['kind']})", title_justify="left")
        unit, size = ("GB", 1e9) if max(stage["peak_bytes"].values(), default=0) >= 1e9 else ("MB", 1e6)
        for name, justify in (("device", "left"), ("what", "left"), ("when", "left"), (unit, "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for part in stage["parts"]:
            table.add_row(part["device"], escape(part["what"]), part["when"] or "always", f"{part['bytes'] / size:.2f}")
        for device, peak in stage["peak_bytes"].items():
            table.add_row(device, "[bold]peak", "", f"[bold]{peak / size:.2f}")
        console.print(table)
        verdict = "fits" if stage["fits"] else f"does NOT fit; change: {'; '.join(stage['advice'])}"
        took = "" if stage["seconds"] is None else f"; about {_duration(stage['seconds'])} ({stage['pace']})"
        console.print(f"{stage['stage']}: {escape(verdict)}{took}\n", highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """In the unit that suits it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def print_benchmark(summary: Mapping[str, Any]) -> None:
    """The figures of a judge benchmark, and what is missing from them, to standard output."""
    console = output()
    console.print(f"{summary['benchmark']}: {summary['note']}", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("")
    for name in ("per cent", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for name, found in summary["figures"].items():
        if found is None:
            table.add_row(name, "not measured", "", "")
        else:
            value, low, high = (f"{100 * found[key]:.1f}" for key in ("value", "low", "high"))
            table.add_row(name, value, f"{low} to {high}", f"{found['n']:,}")
    console.print(table)
    left_out = f"{summary['unscored_items']} of {summary['items']} items left out, "
    counts = f"{summary['unscored']} of {summary['responses']} responses unscored, {summary['truncated']} cut short"
    console.print(f"{left_out}{counts}, {summary['ties']} ties", highlight=False, soft_wrap=True)
    for reason, count in summary["reasons"].items():
        console.print(f"unscored, {count}: {escape(reason)}", highlight=False, soft_wrap=True)
    if summary["truncated"]:
        console.print("note: raise max_tokens (--set max_tokens=...): cut responses are judged by their beginning")
    console.print(escape(summary["output"]), highlight=False, soft_wrap=True)


def print_comparison(found: Mapping[str, Any]) -> None:
    """Two runs beside each other, the paired difference and the questions that flipped, to standard output."""
    console = output()
    table = Table(title=escape(f"a: {found['a']}   b: {found['b']}"), title_justify="left")
    for name in ("benchmark", "a", "b", "b - a, points", "McNemar p", "only a", "only b", "n"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for row in found["rows"]:
        stages = row["stage_a"] if row["stage_a"] == row["stage_b"] else f"{row['stage_a']} / {row['stage_b']}"
        cells = [f"{row['benchmark']} ({row['way']})\n{stages}", *(_share(row[side]) for side in ("a", "b"))]
        d = row["difference"]
        known = d["points"] is not None
        cells.append(f"{d['points']:+.1f}\n{d['low']:+.1f} to {d['high']:+.1f}" if known else "not measured")
        cells += [f"{d['p']:.3g}" if known else "", str(row["only_a"]), str(row["only_b"]), f"{row['n']:,}"]
        table.add_row(*map(escape, cells))
    console.print(table)
    for text in dict.fromkeys(f"{row['benchmark']}, {text}" for row in found["rows"] for text in row["warnings"]):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for row in found["rows"]:
        if row["left_out"]:
            text = f"{row['benchmark']} ({row['way']}): {row['left_out']} questions left out, unscored in one of them"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        for example in row["examples"]:
            question = " ".join(example.get("question", "(its data cannot be read any more)").split())
            short = question if len(question) <= 160 else f"{question[:160]}..."
            where = f"{row['benchmark']} ({row['way']}), only {example['right']} is right"
            console.print(
                f"{where}: {short} [{example.get('answer', '')}]", highlight=False, markup=False, soft_wrap=True
            )


def _share(found: Mapping[str, Any]) -> str:
    if found["accuracy"] is None:
        return "not measured"
    return f"{found['accuracy']:.1%}\n{found['low']:.1%} to {found['high']:.1%}"


def print_sweep(found: Mapping[str, Any]) -> None:
    """The table of a sweep and what must be known of it, to standard output."""
    console = output()
    head, rows = grid_of(found)
    table = Table(title=escape(found["title"] or found["recipe"]), title_justify="left")
    for index, name in enumerate(head):
        table.add_column(escape(name), justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in legend(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def output() -> Console:
    """Standard output: as wide as its window, and wide where it is a pipe or a file."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def progress_for_this_terminal() -> TerminalProgress | PlainProgress:
    """A live bar if somebody watches."""
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()
