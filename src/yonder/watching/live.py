"""The page of runs that are still written: made again when files have changed, and no oftener than it is cheap."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from yonder.errors import StorageError
from yonder.reporting.page import render, report_facts
from yonder.reporting.records import RunRecord, read_run
from yonder.reporting.rollout_sample import Known
from yonder.reporting.sweeps import is_sweep, read_sweep
from yonder.reporting.tables import duration
from yonder.watching.folders import Found, find_runs, signature, to_come
from yonder.watching.state import QUIET_S, RunState, RunWatch

EVERY_S = 5.0  # least time between two pages
SHARE = 0.05  # of one core that making pages may take...
MOST_S = 120.0  # ...but a page is never older than this
_LOOK_S = 1.0  # least time between two looks at the files


@dataclass(frozen=True, slots=True)
class Made:
    """A page and its JSON twin, gzipped, and the version of the files that they show."""

    version: str = ""
    page: bytes = b""
    twin: bytes = b""


class Live:
    """What the server answers with. Nothing is read while nobody asks, and a page only when one is asked for."""

    def __init__(
        self,
        folders: Sequence[Path],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """`clock` and `used`: seconds that have passed, and that this thread has used of a core."""
        self.folders, self.every_s, self.clock, self.used = tuple(folders), every_s, clock, used
        self._lock = threading.Lock()  # one thread reads, the others wait for what it finds
        self._made, self._made_at, self._cost_s = Made(), float("-inf"), 0.0
        self._status: dict[str, Any] = {}
        self._looked_at = float("-inf")
        self._known: Known = {}
        self._watches: dict[Found, RunWatch] = {}

    def status(self) -> dict[str, Any]:
        """`version` (of the page that may be fetched now; empty: there is none), `state`, and `line` for people."""
        with self._lock:
            return self._look()

    def made(self) -> Made:
        """The page of the version that `status` names; empty while there is no run."""
        with self._lock:
            version = self._look()["version"]
            if version != self._made.version:
                begun = self.used()
                self._made = self._make(version)
                self._made_at, self._cost_s = self.clock(), self.used() - begun
            return self._made

    def _look(self) -> dict[str, Any]:
        now = self.clock()
        if now - self._looked_at < min(_LOOK_S, self.every_s):
            return self._status
        found = find_runs(self.folders)
        self._watches = {run: self._watches.get(run) or RunWatch(run) for run in found}
        states = [watch.look() for watch in self._watches.values()]
        coming = to_come(self.folders, found)
        state = overall(states, coming)
        version = signature(found, self.folders)
        wait = max(self.every_s, min(self._cost_s / SHARE, MOST_S))
        if self._made.version and found and now - self._made_at < wait:
            version = self._made.version
        self._looked_at = self.clock()
        self._status = {"version": version, "state": state, "line": told(states, self.folders, coming)}
        return self._status

    def _make(self, version: str) -> Made:
        runs: list[RunRecord] = []
        if len(self.folders) == 1 and is_sweep(self.folders[0]):
            with suppress(StorageError):  # not written whole yet
                sweep, members = read_sweep(self.folders[0])
                if members:
                    return _compressed(version, members, report_facts(members, sweep, self._known))
        for found in self._watches:
            try:
                runs.append(replace(read_run(found.path), name=found.label))
            except StorageError:  # it was moved or deleted since
                continue
        if not runs:
            return Made(version)
        return _compressed(version, runs, report_facts(runs, known=self._known))


def _compressed(version: str, runs: Sequence[RunRecord], facts: dict[str, Any]) -> Made:
    page = render(runs, facts).encode("utf-8", "replace")
    twin = json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")
    return Made(version, gzip.compress(page, 1), gzip.compress(twin, 1))


def overall(states: Sequence[RunState], coming: int = 0) -> str:
    """waiting (no run yet), running (one runs), quiet (none runs, not all are done) or done. `coming`: runs of a sweep
    that have not begun; between two of its runs all others may be done."""
    known = {state.state for state in states}
    if states and coming:
        known.add("running" if time.time() - max(state.written for state in states) < QUIET_S else "quiet")
    return "waiting" if not known else "running" if "running" in known else "quiet" if "quiet" in known else "done"


def told(states: Sequence[RunState], folders: Sequence[Path], coming: int = 0) -> str:
    """One line for people: what runs, how far it is, how long it takes."""
    if not states:
        return f"waiting for a run in {', '.join(map(str, folders))}"
    if len(states) + coming > 1:
        counts = {kind: sum(state.state == kind for state in states) for kind in ("running", "done", "quiet")}
        counts["not begun"] = coming
        return f"{len(states) + coming} runs: " + ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    (state,) = states
    if state.state == "done":
        return f"ended {clock_time(state.written)}"
    ending = f"; nothing was written since {clock_time(state.written)}" if state.state == "quiet" else ""
    return ("between stages" if state.current is None else progress_text(state)) + ending


def progress_text(state: RunState) -> str:
    """distill: step 40 of 100, about 3 min left."""
    stage = state.current
    if stage is None:
        return "no stage has begun"
    text = f"{stage.name} ({stage.kind}) {stage.status}"
    if stage.step is not None:
        text = f"{stage.name}: {stage.unit} {stage.step}" + ("" if stage.steps is None else f" of {stage.steps}")
        text += "" if stage.status == "running" else f", {stage.status}"
    return text + ("" if stage.left_s is None else f", about {duration(stage.left_s)} left")


def clock_time(seconds: float) -> str:
    """A time in local words, as 2026-03-01 14:05."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
