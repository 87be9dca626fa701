"""Small files of a run directory, written whole or not at all."""

import json
import os
import socket
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from yonder.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def only_one(folder: Path, what: str = "run directory", mend: str = "change output_dir") -> Generator[None]:
    """Make a directory and keep other processes out of it while this one works there (where the system has locks).

    StorageError when it cannot be made or written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        done = "written" if folder.is_dir() else "made"
        raise StorageError(f"the {what} {folder} cannot be {done} ({error.strerror or error}); {mend}") from error
    with lock:
        if not locked(lock):
            raise StorageError(f"another process works in the {what} {folder}; wait for it, or {mend}")
        with suppress(OSError):  # for those who look on; a full disk is told by what is written next
            lock.write(f"{socket.gethostname()}\n")
            lock.flush()
        yield


def locked(file: TextIO) -> bool:
    """Take the lock of an open file, which closing it gives back; False where another process has it. True where the
    system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when the file is missing or half-written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_whole(path, json.dumps(value, indent=1, default=str) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text aside and rename it, so that it is whole or what stood there before still stands.

    StorageError when the disk is full or read-only.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.unfinished")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(text, encoding="utf-8", newline="\n")
            to_disk(aside)
            os.replace(aside, path)
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Within it a disk that is full or read-only is one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{path} cannot be written ({reason}); free disk space or change output_dir") from error


def to_disk(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder (where the system can say so), so that a power cut
    later leaves it whole."""
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
