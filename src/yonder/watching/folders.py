"""Which runs there are to watch, whether their files have changed, and whether a process works on them."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yonder.errors import StorageError
from yonder.reporting.sweeps import planned_runs

LOCKS = Path("/proc/locks")  # of Linux
DEPTH = 4  # folders below the given one, in which runs are looked for
_MARKS = ("summary.json", "card.json", "stages")  # a recipe.yaml alone may be anybody's
_FILES = ("recipe.yaml", "card.json", "summary.json", "evaluations.jsonl")
_STAGE_FILES = ("stage.json", "metrics.jsonl", "events.jsonl", "judge_check.json")


@dataclass(frozen=True, slots=True)
class Found:
    """A run directory and what to call it."""

    path: Path
    label: str


def refuse_files(folders: Sequence[Path]) -> None:
    """StorageError where a path is a file; a folder that is not there yet may come."""
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise StorageError(
                f"{folder} is a file; give a run directory (the output_dir of a recipe), or a folder of runs"
            )


def find_runs(folders: Sequence[Path]) -> list[Found]:
    """The given folders that are runs, and every run below those that are not; made so far."""
    found: dict[Path, str] = {}
    for folder in folders:
        for path in _runs_below(folder, DEPTH):
            inside = path != folder
            label = str(path.relative_to(folder)) if inside else path.resolve().name
            if not inside and label in found.values():
                label = str(path)
            found.setdefault(path, label)
    return [Found(path, label) for path, label in found.items()]


def signature(runs: Sequence[Found], folders: Sequence[Path] = ()) -> str:
    """A text that changes with any file that a page shows, of sweeps in `folders` too; empty where there is no run."""
    if not runs:
        return ""
    digest = hashlib.blake2b(digest_size=9)
    for folder in folders:
        digest.update(repr(_size_and_time(folder / "sweep.json")).encode())
    for run in runs:
        for path in _shown_files(run.path):
            digest.update(repr((str(path), *_size_and_time(path))).encode("utf-8", "replace"))
    return digest.hexdigest()


def last_written(run: Path) -> float:
    """When a file of the run was last written, seconds since the epoch; 0 where there is none."""
    return max((_size_and_time(path)[1] / 1e9 for path in _shown_files(run)), default=0.0)


def to_come(folders: Sequence[Path], found: Sequence[Found]) -> int:
    """How many runs of the sweeps among the folders have not begun."""
    known = {run.path.resolve() for run in found}
    return sum(run.resolve() not in known for folder in folders for run in planned_runs(folder))


def held(run: Path, locks: Path = LOCKS) -> bool:
    """Whether a process of this machine works in the run directory (`storage.only_one`).

    It asks the kernel's list and not the lock: taking it, even for a moment, would turn away a run that starts then.
    """
    try:
        lock = (run / ".lock").stat()
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    return any(place in line.split() and "FLOCK" in line and "->" not in line for line in lines)


def let_go(run: Path) -> bool:
    """Whether the last process that worked in the run directory was of this machine, and works there no more."""
    try:
        machine = (run / ".lock").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return False
    return LOCKS.is_file() and machine == socket.gethostname() and not held(run)


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    if any((folder / mark).exists() for mark in _MARKS) and not (folder / "sweep.json").exists():
        yield folder
        return
    if not depth:
        return
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return
    for child in children:
        if not child.name.startswith(".") and not child.is_symlink() and child.is_dir():
            yield from _runs_below(child, depth - 1)


def _shown_files(run: Path) -> Iterator[Path]:
    yield from (run / name for name in _FILES)
    try:
        stages = sorted(child for child in (run / "stages").iterdir() if not child.name.startswith("."))
    except OSError:
        return
    for stage in stages:
        yield from (stage / name for name in _STAGE_FILES)
        yield from sorted(stage.glob("rollouts-*.jsonl*"))


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
