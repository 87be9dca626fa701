"""The view in a terminal: drawn anew every second or two, ended by q or Ctrl-C; plain lines where nobody watches."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live as Screen

from yonder.watching.folders import Found, find_runs, to_come
from yonder.watching.live import overall, told
from yonder.watching.screen import line, screen
from yonder.watching.state import RunState, RunWatch

EVERY_S = 2.0
PLAIN_EVERY_S = 15.0

try:
    import termios
    import tty
except ImportError:  # Windows: Ctrl-C ends the view there
    termios = tty = None


class Watches:
    """The runs below some folders, looked at together; runs that begin later are found."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._known: dict[Found, RunWatch] = {}
        self.coming = 0  # runs of a sweep that have not begun

    def look(self) -> list[RunState]:
        """Where each stands."""
        self._known = {run: self._known.get(run) or RunWatch(run) for run in find_runs(self.folders)}
        self.coming = to_come(self.folders, list(self._known))
        return [watch.look() for watch in self._known.values()]


def show(folders: Sequence[Path], console: Console, every_s: float = EVERY_S) -> None:
    """Draw until q or Ctrl-C."""
    watches = Watches(folders)
    ascii_only = not console.encoding.lower().startswith("utf")
    with keys() as pressed, Screen(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as drawn:
        while True:
            states = watches.look()
            waiting = f"{told(states, folders, watches.coming)} (q or Ctrl-C ends this view)"
            drawn.update(screen(states, waiting, console.width, ascii_only), refresh=True)
            if pressed(every_s) in ("q", "Q", "\x03", "\x04"):
                return


def print_lines(
    folders: Sequence[Path], say: Callable[[str], None], every_s: float = EVERY_S, plain_every_s: float = PLAIN_EVERY_S
) -> None:
    """Print a line where a stage begins or ends, at a trip, now and then, and end when every run is done."""
    watches = Watches(folders)
    before: dict[Path, RunState] = {}
    said_at: dict[Path, float] = {}
    said_wait = ""
    while True:
        states = watches.look()
        if not states and (text := told(states, folders)) != said_wait:
            said_wait = text
            say(text)
        for state in states:
            name = f"{state.label}: " if len(states) + watches.coming > 1 else ""
            old = before.get(state.path)
            for trip in state.trips:
                if old is None or trip not in old.trips:
                    say(f"{name}{trip}")
            moved = old is None or _marks(old) != _marks(state)
            due = time.monotonic() - said_at.get(state.path, 0.0) >= plain_every_s and old != state
            if moved or due:
                say(name + line(state))
                said_at[state.path] = time.monotonic()
            before[state.path] = state
        if states and overall(states, watches.coming) == "done":
            return
        time.sleep(every_s)


def _marks(state: RunState) -> tuple[object, ...]:
    return state.state, *((stage.name, stage.status) for stage in state.stages)


@contextmanager
def keys() -> Generator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns it, or nothing; keys are not shown."""

    def waits(seconds: float) -> str:
        time.sleep(seconds)
        return ""

    if termios is None or tty is None or not sys.stdin.isatty():
        yield waits
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([handle], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(handle)
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
