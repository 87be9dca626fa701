"""Begins and ends the process that sends a run to its trackers. Nothing here waits for one while the run goes on."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from yonder.errors import RecipeError
from yonder.recipe.trackers import TrackerSettings
from yonder.trackers.base import Settings
from yonder.training.progress import Progress

PATIENCE_S = 90.0  # more than that process gives itself
FAILED_PATIENCE_S = 10.0  # of a run that ended early; a scheduler may wait for it
NICENESS = 5  # training comes first where cores are few


def require_trackers(trackers: Sequence[TrackerSettings]) -> None:
    """RecipeError where a tracker's package is missing."""
    for place, tracker in enumerate(trackers):
        found = find_spec(tracker.kind)
        if found is None or found.origin is None:  # a folder of that name here is no package
            raise RecipeError(
                f"trackers.{place}: {tracker.kind} is not installed; pip install 'yonder-rl[trackers]', or leave it out"
            )


@contextmanager
def tracking(trackers: Sequence[TrackerSettings], folder: Path, progress: Progress) -> Generator[None]:
    """Within it the run in `folder` is sent; at its end the rest is, for a while. Never raises for a tracker."""
    if not trackers:
        yield
        return
    process, listener = _started([tracker.model_dump(mode="json") for tracker in trackers], folder, progress)
    status = "failed"
    try:
        yield
        status = "done"
    finally:
        _ended(process, listener, status, progress)


def _started(
    settings: Sequence[Settings], folder: Path, progress: Progress
) -> tuple["subprocess.Popen[str]", threading.Thread]:
    """The process, which has been told what to send, and the thread that passes on what it says."""
    inside = folder / "trackers"
    inside.mkdir(parents=True, exist_ok=True)
    with (inside / "log.txt").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "yonder.trackers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True, start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    _tell(process, json.dumps({"folder": str(folder.resolve()), "trackers": settings}))
    listener = threading.Thread(target=_listen, args=(process.stdout, progress), daemon=True)
    listener.start()
    return process, listener


def _listen(said: IO[str] | None, progress: Progress) -> None:
    for line in said or ():
        progress.say(line.strip())


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    """One line of input; a process that is gone is told nothing."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.write(line + "\n")
            process.stdin.flush()


def _ended(process: "subprocess.Popen[str]", listener: threading.Thread, status: str, progress: Progress) -> None:
    """Tell the process that the run is over, and wait for it a while."""
    _tell(process, status)
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(PATIENCE_S if status == "done" else FAILED_PATIENCE_S)
    except subprocess.TimeoutExpired:
        if status == "done":
            process.kill()
            process.wait()
            progress.say("trackers: not everything was sent in time; the same command sends the rest")
        else:
            progress.say("trackers: what is left is sent by a process that goes on for a while")
            return
    listener.join(5)
