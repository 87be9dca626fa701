"""The commands `yonder watch` and `yonder runs`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yonder.errors import StorageError
from yonder.watching import terminal
from yonder.watching.folders import find_runs, refuse_files
from yonder.watching.live import EVERY_S, Live
from yonder.watching.screen import age, last_accuracy
from yonder.watching.server import Server
from yonder.watching.state import RunState, RunWatch

_TITLE = 40  # columns of a title in the list
_WIDE = 110  # columns of a terminal from which titles are in it
_WIDTH = 200  # columns of a pipe


def watch(folders: Sequence[Path], in_terminal: bool, port: int, every_s: float | None) -> None:
    """Serve the live page, or show the runs in this terminal, until Ctrl-C; StorageError for what is no folder."""
    refuse_files(folders)
    if every_s is not None and not every_s > 0:
        raise StorageError(f"--every {every_s:g} is no time; give seconds above 0")
    with suppress(OSError):
        os.nice(10)  # the training comes first
    signal.signal(signal.SIGTERM, _end)
    with suppress(KeyboardInterrupt):
        if not in_terminal:
            serve(folders, port, every_s)
        elif sys.stdout.isatty():
            terminal.show(folders, Console(), every_s or terminal.EVERY_S)
        else:
            terminal.print_lines(folders, _say, plain_every_s=every_s or terminal.PLAIN_EVERY_S)


def serve(folders: Sequence[Path], port: int, every_s: float | None) -> None:
    """Answer browsers until Ctrl-C."""
    with Server(Live(folders, every_s or EVERY_S), port) as server:
        _say(f"{', '.join(map(str, folders))}: {server.url}  (Ctrl-C ends this view; the run goes on)")
        if not find_runs(folders):
            _say("there is no run yet; the page waits for it")
        server.serve_forever()


def runs_below(folder: Path) -> list[RunState]:
    """Every run directory below a folder, the newest last; StorageError where there is no such folder."""
    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}; give the folder that holds your runs")
    return sorted((RunWatch(found).look() for found in find_runs([folder])), key=lambda state: state.written)


def print_runs(folder: Path) -> None:
    """A table of them, to standard output."""
    states = runs_below(folder)
    if not states:
        _say(f"no run directory in {folder}; `yonder run RECIPE` makes one")
        return
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    wide = console.width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("run", *(("title",) if wide else ()), "state", "stage", "accuracy", "written"):
        table.add_column(name, justify="right" if name == "accuracy" else "left", overflow="fold")
    for state in states:
        title = [state.title if len(state.title) <= _TITLE else f"{state.title[: _TITLE - 1]}…"] if wide else []
        stage = str(summary(state)["stage"])
        cells = [str(state.path), *title, state.state, stage, last_accuracy(state), age(state.written)]
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def summary(state: RunState) -> dict[str, Any]:
    """A run as one JSON object: path, title, state, stage, step, steps, results, written."""
    stage = state.current
    return {
        "run": str(state.path),
        "title": state.title,
        "state": state.state,
        "stage": "" if stage is None else stage.name,
        "step": None if stage is None else stage.step,
        "steps": None if stage is None else stage.steps,
        "results": [{"stage": at, "benchmark": name, "accuracy": value} for at, name, value in state.results],
        "trips": len(state.trips),
        "written": state.written,
    }


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)
