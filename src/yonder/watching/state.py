"""Where a run stands: its stages, the step and the time left, the last figures, trips, what the judge liked wrongly."""

from __future__ import annotations

import re
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from yonder.reporting.records import number
from yonder.reporting.redaction import redact_text
from yonder.reporting.rollout_sample import stand, thresholds_in
from yonder.storage import read_json
from yonder.watching.folders import Found, held, last_written, let_go
from yonder.watching.tail import Tail

FINISHED = ("done", "skipped", "cached")
QUIET_S = 120.0  # without a lock that can be seen, a run that wrote within this time counts as running
_PACE_ROWS = 30  # rows over which the time of a row is taken
_FIGURES = (  # pattern of a metric, what a reader calls it (the caught part follows), shown in per cent
    (r"terms/(.+)/reward_mean", "reward", False),
    (r"(?:development|held_out)/accuracy", "accuracy", True),
    (r"loss", "loss", False),
    (r"policy/kl_nats", "KL, nats", False),
    (r"policy/entropy_nats", "entropy, nats", False),
    (r"rollouts/(.+)/length_mean", "tokens", False),
    (r"monitor/([^/]+)/accuracy", "agrees with the verifier,", True),
    (r"monitor/([^/]+)/gap", "says more than is true,", False),
    (r"terms/(.+)/scored", "scored", True),
)


@dataclass(frozen=True, slots=True)
class StageState:
    """One stage of the recipe; `step` of `steps` are None where nothing counts them."""

    name: str
    kind: str
    status: str  # done, running, unfinished (nothing works on it) or waiting
    seconds: float | None = None
    step: int | None = None
    steps: int | None = None
    unit: str = "step"
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a stage's figures."""

    name: str
    values: tuple[float, ...]
    share: bool


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the terminal shows it."""

    path: Path
    label: str
    title: str
    state: str  # running, quiet (unfinished, and nothing was written lately) or done
    written: float  # seconds since the epoch
    stages: tuple[StageState, ...]
    current: StageState | None  # the one that runs, or the last that wrote figures
    figures: tuple[Figure, ...]
    trips: tuple[str, ...]  # of all stages, in order
    liked_wrongly: tuple[float, str, str] | None  # score, question, response: the last one
    results: tuple[tuple[str, str, float], ...]  # stage, benchmark, accuracy


class RunWatch:
    """Looks at one run again and again, and reads only what is new in the long files."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self._recipe: tuple[float, dict[str, Any]] = (-1.0, {})
        self._logs: dict[Path, Tail] = {}
        self._columns: dict[str, Columns] = {}
        self._trips: dict[str, list[str]] = {}
        self._liked: dict[str, tuple[float, str, str]] = {}

    def look(self, now: float | None = None) -> RunState:
        """How it stands now (seconds since the epoch)."""
        path, now = self.found.path, time.time() if now is None else now
        recipe = self._read_recipe()
        records = {folder.name: read_json(folder / "stage.json") for folder in _stage_folders(path)}
        written = last_written(path)
        busy = held(path)
        done = _is_done(path, records)
        state = (
            "done"
            if done and not busy
            else "running"
            if busy or (now - written < QUIET_S and not let_go(path))
            else "quiet"
        )
        planned: dict[str, dict[str, Any]] = {}
        for stage in _list(recipe.get("stages")):
            planned[str(stage.get("name"))] = stage
        names = list(dict.fromkeys([*planned, *sorted(set(records) - set(planned))]))
        busiest = _begun_last(path, records) if state == "running" else ""
        stages = tuple(self._stage(n, planned.get(n, {}), records.get(n, {}), n == busiest) for n in names)
        current = _current(stages, self._columns)
        return RunState(
            path=path,
            label=self.found.label,
            title=plain(str(recipe.get("title") or self.found.label)),
            state=state,
            written=written,
            stages=stages,
            current=current,
            figures=() if current is None else self._columns[current.name].figures(),
            trips=tuple(trip for name in names for trip in self._events(name)),
            liked_wrongly=None if current is None else self._last_liked(current.name, path),
            results=_results([records.get(name, {}) for name in names]),
        )

    def _read_recipe(self) -> dict[str, Any]:
        file = self.found.path / "recipe.yaml"
        try:
            at = file.stat().st_mtime
            if at != self._recipe[0]:
                value = yaml.safe_load(file.read_text(encoding="utf-8"))
                self._recipe = (at, value if isinstance(value, dict) else {})
        except (OSError, ValueError, yaml.YAMLError):
            return self._recipe[1]
        return self._recipe[1]

    def _stage(self, name: str, planned: Mapping[str, Any], record: Mapping[str, Any], running: bool) -> StageState:
        rows, again = self._tail(self.found.path / "stages" / name / "metrics.jsonl").read()
        if again:
            self._columns[name] = Columns()
        columns = self._columns.setdefault(name, Columns())
        columns.add(rows)
        status = _status(record, running)
        kind = str(record.get("kind") or planned.get("kind") or "unknown")
        unit = "step" if kind == "distill" else "epoch"
        total = number(planned.get(f"{unit}s"))
        steps = None if total is None or not (columns.step is not None or kind in ("distill", "warmup")) else int(total)
        left = columns.left_s(steps) if status == "running" and steps is not None else None
        return StageState(name, kind, status, number(record.get("seconds")), columns.step, steps, unit, left)

    def _events(self, name: str) -> list[str]:
        rows, again = self._tail(self.found.path / "stages" / name / "events.jsonl").read()
        known = self._trips.setdefault(name, [])
        if again:
            known.clear()
        known += [
            plain(f"{name}, step {row.get('step', '?')}: {row.get('action')}: {row.get('message')}") for row in rows
        ]
        return known

    def _last_liked(self, name: str, path: Path) -> tuple[float, str, str] | None:
        """From the newest log alone: older ones do not have the last."""
        logs = sorted((path / "stages" / name).glob("rollouts-*.jsonl*"))
        rows = self._tail(logs[-1]).read()[0] if logs else []
        thresholds = thresholds_in(read_json(path / "card.json")) if rows else {}
        for row in rows:
            scores = row.get("scores")
            _, opinion, _, liking = stand(scores if isinstance(scores, dict) else {}, thresholds)
            if opinion == "liked wrongly":
                text = str(row.get("completion") or row.get("response") or "")
                self._liked[name] = (liking, plain(str(row.get("question") or "")), plain(text.strip()[-400:]))
        return self._liked.get(name)

    def _tail(self, path: Path) -> Tail:
        return self._logs.setdefault(path, Tail(path))


class Columns:
    """The figures of one stage's metrics, row after row."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._values: dict[str, list[float]] = {}
        self._pace: deque[tuple[float, float]] = deque(maxlen=_PACE_ROWS)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows in."""
        for row in rows:
            step, at = number(row.get("step")), number(row.get("time_s"))
            if step is not None:
                self.step = int(step)
                if at is not None:
                    self._pace.append((step, at))
            for key, value in row.items():
                plain_value = number(value)
                if plain_value is not None and _named(key) is not None:
                    self._values.setdefault(key, []).append(plain_value)

    def figures(self) -> tuple[Figure, ...]:
        """In reading order; shares of scored rollouts only where some are not scored."""
        found: list[tuple[int, Figure]] = []
        for key, values in self._values.items():
            order, name, share = _named(key) or (0, "", False)
            if not name.startswith("scored") or min(values[-10:]) < 1:
                found.append((order, Figure(plain(name), tuple(values), share)))
        return tuple(figure for _, figure in sorted(found, key=lambda pair: pair[0]))

    def left_s(self, steps: int) -> float | None:
        """Seconds to the last step at the pace of the last rows (median, so that a pause does not count)."""
        pairs = list(self._pace)
        paces = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(pairs) if b[0] > a[0]]
        return None if not paces or self.step is None else max(0.0, statistics.median(paces) * (steps - self.step))


def plain(text: str) -> str:
    """The text on one line, without secrets and without anything that a terminal would obey."""
    return redact_text("".join(letter if letter.isprintable() else " " for letter in text.replace("\n", " ⏎ ")))


@cache
def _named(key: str) -> tuple[int, str, bool] | None:
    for order, (pattern, name, share) in enumerate(_FIGURES):
        match = re.fullmatch(pattern, key)
        if match:
            return order, f"{name} {match[1]}" if match.re.groups else name, share
    return None


def _status(record: Mapping[str, Any], running: bool) -> str:
    if not record:
        return "waiting"
    if record.get("status") in FINISHED:
        return "done"
    return "running" if running else "unfinished"


def _begun_last(path: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The unfinished stage whose record was written last; empty where there is none."""
    times = {
        name: _time(path / "stages" / name / "stage.json")
        for name, record in records.items()
        if record and record.get("status") not in FINISHED
    }
    return max(times, key=lambda name: times[name], default="")


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _current(stages: Sequence[StageState], columns: Mapping[str, Columns]) -> StageState | None:
    running = [stage for stage in stages if stage.status in ("running", "unfinished")]
    counted = [stage for stage in stages if stage.step is not None]
    return running[-1] if running else counted[-1] if counted else None


def _is_done(path: Path, records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the last call came to its end: the summary is written then, and the recipe at the beginning."""
    ended, begun = _time(path / "summary.json"), _time(path / "recipe.yaml")
    return 0 < ended >= begun and all(record.get("status") in FINISHED for record in records.values() if record)


def _results(records: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, float], ...]:
    found: dict[tuple[str, str], float] = {}
    for record in records:
        table = _dict(_dict(record.get("result")).get("results"))
        for stage, row in table.items():
            for benchmark, cell in _dict(row).items():
                accuracy = number(_dict(cell).get("accuracy"))
                if accuracy is not None:
                    found[plain(stage), plain(benchmark)] = accuracy
    return tuple((stage, benchmark, accuracy) for (stage, benchmark), accuracy in found.items())


def _stage_folders(path: Path) -> list[Path]:
    try:
        return [child for child in (path / "stages").iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:
        return []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
