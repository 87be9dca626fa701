"""Verdicts of served judges on disk: the same question and response is not paid for twice, and a resumed run reads the
same numbers."""

import hashlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from yonder.errors import StorageError
from yonder.rewards.judge import Verdict

Key = tuple[
    str, ...
]  # (server kind and model, way, urls, tokenizer, template and labels, length limit, question, response)
_AT_ONCE = 500  # host parameters that every SQLite takes


class VerdictCache:
    """A table in one SQLite file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        """StorageError when the file cannot be opened."""
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
            self._base.execute("PRAGMA synchronous=NORMAL")  # with WAL: no wait for the disk at every answer
            with self._base:
                self._base.execute("PRAGMA journal_mode=WAL")
                self._base.execute(
                    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, logit_gap REAL, mass REAL, "
                    "truncated INTEGER, missing_yes INTEGER, missing_no INTEGER)"
                )
        except (OSError, sqlite3.Error) as error:
            mend = "delete it or set server.cache: false"
            raise StorageError(f"judge cache {path} cannot be used ({error}); {mend}") from error

    def find(self, keys: Sequence[Key]) -> dict[Key, Verdict]:
        """The verdicts that are known."""
        digests = {digest(key): key for key in keys}
        found: dict[Key, Verdict] = {}
        names = list(digests)
        with self._lock:
            for start in range(0, len(names), _AT_ONCE):
                part = names[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                for name, gap, mass, cut, no_yes, no_no in self._run(
                    f"SELECT * FROM verdicts WHERE key IN ({marks})", part
                ):
                    found[digests[name]] = Verdict(gap, mass, bool(cut), bool(no_yes), bool(no_no))
        return found

    def keep(self, verdicts: Mapping[Key, Verdict]) -> None:
        """Add verdicts."""
        rows = [(digest(key), *verdict[:-1]) for key, verdict in verdicts.items()]
        with self._lock:
            try:
                with self._base:
                    self._base.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.Error as error:
                raise StorageError(f"judge cache {self.path} cannot be written ({error}); free disk space") from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _run(self, command: str, values: Sequence[str]) -> list[tuple[str, float, float, int, int, int]]:
        try:
            return self._base.execute(command, values).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"judge cache {self.path} cannot be read ({error}); delete it") from error


def digest(key: Key) -> str:
    """SHA-256 of a key, its parts kept apart."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in key).encode("utf-8", "surrogatepass")).hexdigest()
