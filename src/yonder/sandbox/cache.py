"""What is known about programs already run: a bounded memory, and a log that makes an interrupted run repeatable.

Most results follow from the program alone. Those that a clock, a memory limit or the fallback's calendar decided do
not, so they are written to the log and read back: the resumed run then sees what the first one saw. Results of a
machine's failure are neither kept nor logged.
"""

import hashlib
import json
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, cast

from yonder.sandbox.protocol import Limits, parse_reply
from yonder.sandbox.result import ProgramResult

SLOW_SHARE = 0.1  # of the time limit: a program this slow might be cut on another day


def program_key(program: str) -> str:
    """The program's SHA-256, for memory and log."""
    return hashlib.sha256(program.encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """The most recently used results, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._results: OrderedDict[str, ProgramResult] = OrderedDict()

    def get(self, key: str) -> ProgramResult | None:
        """The result, if known; it counts as used."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: str, result: ProgramResult) -> None:
        """Remember a result, unless it says nothing about the program."""
        if result.status == "infrastructure":
            return
        self._results[key] = result
        self._results.move_to_end(key)
        while len(self._results) > self.size:
            self._results.popitem(last=False)


class ResultLog:
    """JSON lines, one per result that might differ on another day. Lines made under other limits are left alone."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.known = self._read()
        self._file: TextIO | None = None

    def _read(self) -> dict[str, ProgramResult]:
        known: dict[str, ProgramResult] = {}
        base = self.path.name.partition(".")[0]  # NAME.jsonl, and NAME.1.jsonl of another process
        for path in [self.path, *sorted(self.path.parent.glob(f"{base}*.jsonl"))]:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
                entry = _parse_line(line, self.limits)
                if entry is not None:
                    known.setdefault(*entry)
        return known

    def add(self, key: str, result: ProgramResult) -> None:
        """Append the result if it might differ on another day, and it is not there yet."""
        if result.status == "infrastructure" or key in self.known or not self._is_fragile(result):
            return
        self.known[key] = result
        if self._file is None:
            self._file = self._open()
        line = {"sha256": key, "limits": self.limits.to_json(), **asdict(result)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _is_fragile(self, result: ProgramResult) -> bool:
        slow = result.seconds > SLOW_SHARE * self.limits.timeout_s
        return slow or result.status in ("timeout", "memory") or result.executor == "cpython"

    def _open(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = self.path.exists() and not self.path.read_bytes().endswith((b"\n",)) and self.path.stat().st_size > 0
        file = self.path.open("a", encoding="utf-8")
        if cut:  # a run was killed while writing; its half line stays unreadable, ours must not
            file.write("\n")
        return file

    def close(self) -> None:
        """Close the file; a later `add` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _parse_line(line: str, limits: Limits) -> tuple[str, ProgramResult] | None:
    """Key and result of one line; None for a damaged line or one made under other limits."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    row = cast("dict[str, Any]", entry)
    fields = [row.get(name) for name in ("status", "value", "detail", "printed", "seconds")]
    reply = parse_reply([*fields, False], limits.output_chars)
    key, executor = row.get("sha256"), row.get("executor")
    if reply is None or row.get("limits") != limits.to_json() or not isinstance(key, str):
        return None
    if executor != "monty" and executor != "cpython":
        return None
    return key, ProgramResult(*reply[:5], executor)
