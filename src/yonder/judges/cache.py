"""Answers of served judges on disk: the same question and response is not paid for twice, and a resumed run reads the
same numbers."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from yonder.errors import StorageError
from yonder.rewards.judge import Verdict
from yonder.rewards.rating import Ratings

A = TypeVar("A")
Key = tuple[
    str, ...
]  # (server kind and model, way, urls, tokenizer, template and labels, length limit, question, response)
_AT_ONCE = 500  # host parameters that every SQLite takes


class AnswerCache(Generic[A]):
    """A table in one SQLite file; several processes may share it."""

    def __init__(
        self, path: Path, table: str, columns: str, row: Callable[[A], Sequence[object]], answer: Callable[..., A]
    ) -> None:
        """`columns`: names and types of what `row` makes of an answer and `answer` an answer of. StorageError when the
        file cannot be opened."""
        self.path = path
        self.table = table
        self._row, self._answer = row, answer
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
            self._base.execute("PRAGMA synchronous=NORMAL")  # with WAL: no wait for the disk at every answer
            with self._base:
                self._base.execute("PRAGMA journal_mode=WAL")
                self._base.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {columns})")
        except (OSError, sqlite3.Error) as error:
            mend = "delete it or set server.cache: false"
            raise StorageError(f"judge cache {path} cannot be used ({error}); {mend}") from error

    def find(self, keys: Sequence[Key]) -> dict[Key, A]:
        """The answers that are known."""
        digests = {digest(key): key for key in keys}
        found: dict[Key, A] = {}
        names = list(digests)
        with self._lock:
            for start in range(0, len(names), _AT_ONCE):
                part = names[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                for name, *values in self._run(f"SELECT * FROM {self.table} WHERE key IN ({marks})", part):
                    found[digests[name]] = self._answer(*values)
        return found

    def keep(self, answers: Mapping[Key, A]) -> None:
        """Add answers."""
        rows = [(digest(key), *self._row(answer)) for key, answer in answers.items()]
        if not rows:
            return
        marks = ", ".join("?" * len(rows[0]))
        with self._lock:
            try:
                with self._base:
                    self._base.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES ({marks})", rows)
            except sqlite3.Error as error:
                raise StorageError(f"judge cache {self.path} cannot be written ({error}); free disk space") from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _run(self, command: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        try:
            return self._base.execute(command, values).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"judge cache {self.path} cannot be read ({error}); delete it") from error


class VerdictCache(AnswerCache[Verdict]):
    """Verdicts, Yes or No."""

    def __init__(self, path: Path) -> None:
        columns = "logit_gap REAL, mass REAL, truncated INTEGER, missing_yes INTEGER, missing_no INTEGER"
        super().__init__(path, "verdicts", columns, lambda verdict: verdict[:-1], _verdict)


class RatingsCache(AnswerCache[Ratings]):
    """Ratings: their probabilities, as a list in JSON."""

    def __init__(self, path: Path) -> None:
        columns = "probabilities TEXT, truncated INTEGER"
        super().__init__(path, "ratings", columns, lambda given: (json.dumps(given[0]), given.truncated), _ratings)


def _verdict(gap: float, mass: float, cut: int, no_yes: int, no_no: int) -> Verdict:
    return Verdict(gap, mass, bool(cut), bool(no_yes), bool(no_no))


def _ratings(probabilities: str, cut: int) -> Ratings:
    return Ratings(tuple(json.loads(probabilities)), bool(cut))


def digest(key: Key) -> str:
    """SHA-256 of a key, its parts kept apart."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in key).encode("utf-8", "surrogatepass")).hexdigest()
