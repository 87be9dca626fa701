"""Reads what a run writes and sends it to one tracker, every row once: what was sent stands in `trackers/KIND.json`."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from yonder.reporting.redaction import redact, redact_text, redact_yaml
from yonder.storage import read_json, write_json
from yonder.trackers.base import About, Open, Settings, Tracker, flat

AT_ONCE = 200  # rows between two notes of what was sent
_FIGURES = (
    "accuracy",
    "low",
    "high",
    "n",
    "unscored",
    "pass_at_k",
)  # of a benchmark; its other numbers are in evaluations.jsonl


@dataclass(slots=True)
class Tail:
    """The whole lines that were added to a file since they were last read; all of them again where another file took
    its place."""

    path: Path
    offset: int = 0
    inode: int = 0

    def unread(self) -> Iterator[dict[str, Any]]:
        """Each further row. It counts as read once the next one is asked for."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            inode = self.path.stat().st_ino
            if inode != self.inode:
                self.inode, self.offset = inode, 0
            file.seek(self.offset)
            while (line := file.readline()).endswith(b"\n"):
                try:
                    row: Any = json.loads(line)
                except ValueError:
                    row = None
                if isinstance(row, dict):
                    yield row
                self.offset += len(line)


@dataclass(slots=True)
class Sent:
    """What of one stage a tracker has."""

    begun: str = ""  # when the stage was: one that is run anew has another
    step: float = -1.0
    events: list[str] = field(default_factory=list[str])
    results: list[str] = field(default_factory=list[str])


class Follower:
    """One run in one tracker. `send` may be called any number of times, in any number of processes one after the other;
    it sends what is new."""

    def __init__(self, name: str, settings: Settings, folder: Path, opened: Open) -> None:
        """`name`: of its file below `trackers/`; `opened`: makes the tracker when there is something to send."""
        self.name = name
        self.settings = settings
        self.folder = folder
        self.failures = 0
        self._open = opened
        self._tracker: Tracker | None = None
        self._tails: dict[Path, Tail] = {}
        self._state = folder / "trackers" / f"{name}.json"
        self._load()

    def send(self) -> None:
        """Send what is new; raises what the tracker raises, and then the same is new at the next call."""
        if self._begun_anew():
            self._forget()
        tracker = self._open_tracker()
        for stage in self._stages():
            self._send_rows(tracker, stage)
            self._send_events(tracker, stage)
            self._send_results(tracker, stage)
        tracker.flush()
        self._save()

    def finish(self, status: str) -> None:
        """Send the rest and the page; the run is over for the tracker too."""
        self.send()
        tracker, page = self._open_tracker(), self.folder / "report.html"
        if page.is_file() and (digest := hashlib.sha256(page.read_bytes()).hexdigest()) != self._page:
            tracker.page(page)
            self._page = digest
            self._save()
        tracker.close(status)
        self._tracker = None

    def unsent(self) -> int:
        """Rows of metrics that the tracker does not have."""
        tails = [(name, Tail(self._stage(name) / "metrics.jsonl")) for name in self._stages()]
        return sum(row.get("step", 0) > self._of(name).step for name, tail in tails for row in tail.unread())

    def _open_tracker(self) -> Tracker:
        if self._tracker is None:
            text = redact_yaml((self.folder / "recipe.yaml").read_text(encoding="utf-8"))
            recipe: Any = redact(yaml.safe_load(text))
            about = About(self.folder, recipe.get("title") or self.folder.name, recipe, text)
            self._tracker = self._open(self.settings, about, self._run, self._rows)
            self._run = self._tracker.run
            self._save()
        return self._tracker

    def _send_rows(self, tracker: Tracker, stage: str) -> None:
        """New rows of metrics, a batch at a time. What is about to be sent is noted before: rows that a kill catches
        between note and tracker are missing there rather than doubled."""
        tail, sent = self._tail(stage, "metrics.jsonl"), self._of(stage)
        unread = (row for row in tail.unread() if _number(row.get("step")) > sent.step)
        while rows := list(islice(_kept(unread), AT_ONCE)):
            before, sent.step = sent.step, _number(rows[-1]["step"])
            self._save()
            sent.step = before
            try:
                for row in rows:
                    tracker.log(stage, int(row["step"]), float(row.get("time_s") or 0.0), flat(stage, row))
                    sent.step, self._rows = _number(row["step"]), self._rows + 1
            except BaseException:
                self._tails.clear()
                self._save()
                raise
            tracker.flush()

    def _send_events(self, tracker: Tracker, stage: str) -> None:
        """Trips and refits, each a number 1 at its step and a sentence."""
        sent = self._of(stage)
        for row in self._tail(stage, "events.jsonl").unread():
            step, rule = int(_number(row.get("step"))), str(row.get("rule"))
            key = f"{step}:{rule}:{row.get('reward')}:{row.get('stream')}"
            if key in sent.events:
                continue
            message = redact_text(f"{row.get('message')} ({row.get('action')})")
            self._once(sent.events, key, stage, step, {f"event/{rule}": 1.0})
            tracker.note(stage, step, rule, message)

    def _send_results(self, tracker: Tracker, stage: str) -> None:
        """What a finished stage found: its benchmarks as `evaluation/CHECKPOINT/BENCHMARK/...`, its other numbers as
        `STAGE/result/...`."""
        known = read_json(self._stage(stage) / "stage.json")
        result, sent = known.get("result"), self._of(stage)
        if known.get("status") != "done" or not isinstance(result, dict) or "result" in sent.results:
            return
        values = flat("result", {key: value for key, value in result.items() if key != "results"})
        step = int(max(sent.step, 0))
        for checkpoint, row in result.get("results", {}).items():
            for benchmark, cell in row.items():
                figures = {key: cell.get(key) for key in _FIGURES}
                figures["vote"] = {key: (cell.get("vote") or {}).get(key) for key in _FIGURES}
                found = flat("evaluation", {f"{checkpoint}/{benchmark}": figures})
                self._once(sent.results, f"{checkpoint}/{benchmark}", "", step, found)
        self._once(sent.results, "result", stage, step, values)

    def _once(self, done: list[str], key: str, stage: str, step: int, values: dict[str, float]) -> None:
        """Log values under a stage's name unless `key` is among those done."""
        if key in done:
            return
        done.append(key)
        self._save()
        named = flat(stage, values) if stage else values
        try:
            if named:
                self._open_tracker().log(stage or "evaluation", step, _now(self.folder), named)
                self._rows += 1
        except BaseException:
            done.remove(key)
            self._tails.clear()
            self._save()
            raise

    def _stages(self) -> list[str]:
        """Names of the stages that have begun, in the order in which they did."""
        found = [path for path in (self.folder / "stages").glob("*/stage.json") if not path.parent.name.startswith(".")]
        return [path.parent.name for path in sorted(found, key=lambda path: (self._begun(path.parent.name), path))]

    def _begun(self, stage: str) -> str:
        return str(read_json(self._stage(stage) / "stage.json").get("begun", ""))

    def _stage(self, name: str) -> Path:
        return self.folder / "stages" / name

    def _of(self, stage: str) -> Sent:
        return self._sent.setdefault(stage, Sent(self._begun(stage)))

    def _begun_anew(self) -> bool:
        """Whether a stage whose rows were sent has been run anew since: its steps begin at 1 again, which only another
        run of the tracker can show."""
        return any(self._begun(name) not in ("", sent.begun) for name, sent in self._sent.items())

    def _tail(self, stage: str, name: str) -> Tail:
        path = self._stage(stage) / name
        return self._tails.setdefault(path, Tail(path))

    def _forget(self) -> None:
        if self._tracker is not None:
            self._tracker.close("failed")
        self._tracker, self._run, self._rows, self._page = None, None, 0, ""
        self._sent: dict[str, Sent] = {}
        self._tails.clear()

    def _load(self) -> None:
        self._forget()
        known = read_json(self._state)
        if known.get("settings") == json.loads(json.dumps(redact(dict(self.settings)))):
            self._run, self._rows, self._page = known["run"], known["rows"], known["page"]
            self._sent = {name: Sent(**sent) for name, sent in known["stages"].items()}

    def _save(self) -> None:
        stages = {
            name: {"begun": sent.begun, "step": sent.step, "events": sent.events, "results": sent.results}
            for name, sent in self._sent.items()
        }
        facts = {"settings": redact(dict(self.settings)), "run": self._run, "rows": self._rows, "page": self._page}
        write_json(self._state, facts | {"failures": self.failures, "stages": stages})


def _kept(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of which each stands at a step."""
    return (row for row in rows if _number(row.get("step")) >= 0)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def _now(folder: Path) -> float:
    """When the run's files were last written, so that the same results sent again are the same."""
    return (folder / "recipe.yaml").stat().st_mtime
