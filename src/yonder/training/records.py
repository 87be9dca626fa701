"""What a stage writes while it runs: metrics, rollouts and events, one JSON object a line."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zstandard

from yonder.schema import Trip
from yonder.storage import write_json, writing
from yonder.training.rollout import StreamRollouts, StreamScores, rollout_row


class Recorder:
    """Appends `metrics.jsonl`, `events.jsonl` and `rollouts-<first step>.jsonl.zst` in a stage's folder."""

    def __init__(self, folder: Path, rollouts_per_stream: int = 0, silent: bool = False) -> None:
        """`silent`: nothing is written, since another process does."""
        self.folder = folder
        self.rollouts_per_stream = rollouts_per_stream
        self.silent = silent
        self._first_step = 0

    def begin(self, step: int) -> None:
        """Continue after `step`: what an interrupted run wrote beyond it is dropped, so that no step appears twice."""
        self._first_step = step
        if self.silent:
            return
        for path in (self.folder / "metrics.jsonl", self.folder / "events.jsonl"):
            if not path.is_file():
                continue
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            aside = path.with_name(f".{path.name}.unfinished")
            self._write(aside, "".join(line + "\n" for line in kept).encode(), "wb")
            aside.replace(path)
        for old in self.folder.glob("rollouts-*.jsonl.zst"):
            if int(old.name.split("-")[1].split(".")[0]) >= step:
                old.unlink()

    def saved(self, step: int) -> None:
        """A checkpoint exists at `step`: later rollouts go into a new file."""
        self._first_step = step

    def metrics(self, row: dict[str, Any]) -> None:
        """Append one row; numbers that are not finite become null."""
        self._append("metrics.jsonl", row)

    def event(self, step: int, action: str, trip: Trip) -> None:
        """Append a trip of the monitor with what was done about it and the rollouts that caused it."""
        self._append("events.jsonl", {"step": step, "action": action, **asdict(trip)})

    def dump(self, name: str, value: dict[str, Any]) -> Path:
        """Write a JSON file of its own, for people to read; returns where."""
        if not self.silent:
            write_json(self.folder / name, _number(value))
        return self.folder / name

    def rollouts(self, step: int, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Append the first rollouts of each stream with every score they got."""
        lines: list[str] = []
        for stream, members in rollouts.items():
            given = {reward: found for (reward, of), found in scores.items() if of == stream}
            for i in spread(len(members), self.rollouts_per_stream):
                row = rollout_row(step, stream, members[i], {n: s[i] for n, s in given.items()})
                lines.append(json.dumps(_number(row), allow_nan=False))
        if lines:
            frame = zstandard.ZstdCompressor(level=6).compress(("\n".join(lines) + "\n").encode())
            self._write(self.folder / f"rollouts-{self._first_step:08d}.jsonl.zst", frame, "ab")

    def _append(self, name: str, row: dict[str, Any]) -> None:
        line = json.dumps(_number(row), allow_nan=False)
        self._write(self.folder / name, (line + "\n").encode(), "ab")

    def _write(self, path: Path, data: bytes, mode: str) -> None:
        if self.silent:
            return
        with writing(path), path.open(mode) as file:
            file.write(data)


def spread(count: int, most: int) -> Sequence[int]:
    """At most `most` indices, evenly over `count`: some of every group rather than the first group only."""
    if count <= most:
        return range(count)
    return sorted({i * count // most for i in range(most)})


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_number(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a half-written last line
