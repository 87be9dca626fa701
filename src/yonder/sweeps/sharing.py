"""Finished stages that the runs of a sweep give one another: a warm-up of one seed is made once.

A stage's hash covers everything that decides what comes of it (`pipeline.Runner.made`), so a finished stage of the same
hash is the same stage. Its files are linked, not copied, where the file system can; every run directory is whole by
itself. Nothing writes into the files of a finished stage.
"""

import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from yonder.signals import StopRequest
from yonder.storage import locked, read_json, write_json

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class SharedStages:
    """The other run directories of a sweep, as `pipeline.run` asks them."""

    runs: tuple[Path, ...]
    locks: Path  # a folder with a file for every stage that is being made
    stop: StopRequest
    say: Callable[[str], None]

    @contextmanager
    def turn(self, stage: str, digest: str) -> Generator[None]:
        """Within it no other process makes a stage of this hash; waits for the one that does."""
        self.locks.mkdir(parents=True, exist_ok=True)
        with (self.locks / f"{stage}-{digest}").open("w") as file:
            if not locked(file):
                self.say(f"{stage}: another process makes it; waiting")
                while not locked(file):
                    self.stop.check(f"{stage} was not begun")
                    time.sleep(POLL_S)
            yield

    def take(self, stage: str, digest: str, folder: Path) -> bool:
        """Put another run's finished stage of this hash into `folder`; what is unfinished there is of the same
        hash, and goes."""
        for run in self.runs:
            theirs = run / "stages" / stage
            if theirs.resolve() != folder.resolve() and is_finished(theirs, digest):
                with suppress(OSError):  # it was just set aside, or the disk is full: then it is made here
                    _take(theirs, folder)
                    return True
        return False


def is_finished(folder: Path, digest: str) -> bool:
    """Whether a stage of this hash is finished there."""
    known = read_json(folder / "stage.json")
    return known.get("status") == "done" and known.get("hash") == digest


def _take(theirs: Path, folder: Path) -> None:
    """Link a stage's folder, whole or not at all; its record says whose it is, since its seconds were spent there."""
    aside = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(theirs, aside, copy_function=_link)
    record = read_json(theirs / "stage.json")
    made_in = record.get("made_in") or str(theirs.parents[1])
    write_json(aside / "stage.json", record | {"made_in": made_in})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def _link(source: str, target: str) -> None:
    """A second name for the same file, or a copy of it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
