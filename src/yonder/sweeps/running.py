"""The runs of a sweep, one after the other in this process or several at a time in processes of their own."""

import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from yonder.errors import Stopped, YonderError
from yonder.models.loading import pick_device
from yonder.pipeline.running import run as run_pipeline
from yonder.signals import StopRequest
from yonder.storage import only_one
from yonder.sweeps.log import LoggedProgress
from yonder.sweeps.plan import LOCKS, Plan, Run
from yonder.sweeps.sharing import SharedStages
from yonder.sweeps.state import SILENT_S, read_state, silent_for, state_of, works_here, write_state
from yonder.sweeps.table import write_sweep
from yonder.training.meeting import begun
from yonder.training.progress import Progress

LOG = "log.txt"  # in a run directory: what it said
POLL_S = 0.2


def run_one(plan: Plan, run: Run, stop: StopRequest, bar: Progress, allow_changes: bool = False) -> None:
    """Make one run, or what is left of it. Raises whatever ended it, after it is recorded; Stopped where `stop` asked.

    Under torchrun every process calls this, and process 0 records.
    """
    recipe = run.load()
    began, how = time.time(), recipe.parallel
    with begun(how.strategy, how.offload, how.timeout_s, pick_device(recipe.policy.device)) as world:
        if not world.first:
            run_pipeline(recipe, run.stages, stop=stop, world=world)
            return
        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / LOG).open("a", encoding="utf-8") as file:
            progress = LoggedProgress(file, bar)
            others = tuple(other.folder for other in plan.runs if other.folder != run.folder)
            shelf = SharedStages(others, plan.folder / LOCKS, stop, progress.say)
            with shelf.turn("run", run.name.replace("/", "-")):
                _recorded(
                    run,
                    began,
                    progress,
                    lambda: run_pipeline(recipe, run.stages, progress, stop, allow_changes, world, shelf),
                )


def _recorded(run: Run, began: float, progress: Progress, make: Callable[[], object]) -> None:
    """Make a run, and record what became of it."""
    write_state(run.folder, "running", began)
    try:
        make()
    except (Stopped, KeyboardInterrupt):
        write_state(run.folder, "pending", began)
        raise
    except Exception as error:  # a run that fails takes no other with it: recorded, and told by the caller
        said = str(error) if isinstance(error, YonderError) else f"{type(error).__name__}: {error}"
        progress.say(said if isinstance(error, YonderError) else traceback.format_exc())
        write_state(run.folder, "failed", began, said)
        raise
    finally:
        progress.finish()
    write_state(run.folder, "done", began)


class Going(NamedTuple):
    """A run in a process of its own."""

    run: Run
    process: "subprocess.Popen[bytes]"
    began: float  # time.monotonic()
    wall: float  # time.time()


@dataclass(slots=True)
class Sweeper:
    """A sweep while it runs."""

    plan: Plan
    stop: StopRequest
    bar: Progress
    allow_changes: bool = False
    states: dict[str, str] = field(default_factory=dict[str, str])
    seconds: list[float] = field(default_factory=list[float])  # of the runs made now

    def sweep(self, jobs: int, command: Callable[[Run], Sequence[str]]) -> None:
        """Make every run that is not done, in order; a failed one is recorded and the rest goes on. `command`: what
        makes one run in a process of its own. Raises Stopped where that was asked for."""
        with only_one(self.plan.folder, "folder", "name another with --output-dir"):
            self.states = {run.name: state_of(run) for run in self.plan.runs}
            due: list[Run] = []
            waited: list[Run] = []  # a process that an earlier sweep began works on them
            for run in self.plan.runs:
                if self.states[run.name] == "done":
                    self.bar.say(self._line(run, "done before"))
                elif self.states[run.name] != "running":
                    due.append(run)
                elif works_here(run.folder):
                    waited.append(run)
                else:
                    self.bar.say(self._line(run, self._elsewhere(run)))
            due += waited
            write_sweep(self.plan, self.states)
            if jobs == 1:
                self._one_by_one(due)
            else:
                self._together(due, jobs, command)

    def _elsewhere(self, run: Run) -> str:
        """What is said of a run that a process of another machine works on, as far as its files tell."""
        since = duration(silent_for(run.folder))
        return (
            f"runs on another machine ({read_state(run.folder).get('machine')}), which wrote last {since} ago; was it "
            f"killed, then --run {run.name} goes on with it now, and this command {duration(SILENT_S)} after its last "
            "sign"
        )

    def _one_by_one(self, due: Sequence[Run]) -> None:
        for i, run in enumerate(due):
            self.stop.check("no run is going")
            self.bar.say(self._line(run, f"begins{self._left(len(due) - i, 1)}"))
            began = time.monotonic()
            try:
                run_one(self.plan, run, self.stop, self.bar, self.allow_changes)
            except Stopped:
                self.states[run.name] = "pending"
                write_sweep(self.plan, self.states)
                raise
            except Exception:  # run_one has recorded it, and the sentence is in the run's line
                logging.getLogger("yonder").debug("%s failed", run.title, exc_info=True)
            self._ended(run, time.monotonic() - began, len(due) - i - 1, 1)

    def _together(self, due: Sequence[Run], jobs: int, command: Callable[[Run], Sequence[str]]) -> None:
        asked = False
        waiting, going = list(due), dict[str, Going]()
        try:
            while waiting or going:
                while waiting and len(going) < jobs and not self.stop.asked:
                    run = waiting.pop(0)
                    self.bar.say(self._line(run, f"begins{self._left(len(waiting) + len(going) + 1, jobs)}"))
                    going[run.name] = Going(run, _start(command(run), run.folder), time.monotonic(), time.time())
                    self.states[run.name] = "running"
                for run, process, began, wall in list(going.values()):
                    if process.poll() is not None:
                        del going[run.name]
                        _record_early_end(run, process.returncode, wall)
                        self._ended(run, time.monotonic() - began, len(waiting) + len(going), jobs)
                if self.stop.asked and not going:
                    self.stop.check("no run is going")
                if self.stop.asked and not asked:
                    asked = True
                    for one in going.values():
                        one.process.terminate()  # it finishes its step and saves
                time.sleep(POLL_S)
        finally:
            for one in going.values():
                one.process.kill()

    def _ended(self, run: Run, seconds: float, left: int, jobs: int) -> None:
        """Record what became of a run, tell it in a line, and write the table so far."""
        state = self.states[run.name] = state_of(run)
        if state == "done":
            self.seconds.append(seconds)
        known = read_state(run.folder)
        what = f"FAILED: {known.get('error')}" if state == "failed" else f"{state} after {duration(seconds)}"
        self.bar.say(self._line(run, what + self._left(left, jobs)))
        write_sweep(self.plan, self.states)

    def _line(self, run: Run, what: str) -> str:
        number = self.plan.runs.index(run) + 1
        return f"run {number} of {len(self.plan.runs)}, {run.title}: {what}"

    def _left(self, runs: int, jobs: int) -> str:
        """The time left for so many runs, by the mean of those that were made now."""
        if not runs or not self.seconds:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f"; {runs} left, about {duration(mean * runs / jobs)}"


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def own_command() -> list[str]:
    """How this program is started again."""
    return [sys.executable, "-m", "yonder"]


def _start(command: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    """A process of its own session, so that Ctrl-C in the terminal reaches it once: from this one.

    Its threads sleep while they wait for one another, unless the environment says otherwise: those of several runs on
    the same cores would take from each other what they wait for.
    """
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
        )


def _record_early_end(run: Run, code: int, began: float) -> None:
    """A process that ended otherwise than well, and before it could record that, is a failed run."""
    known = read_state(run.folder)
    if code in (0, Stopped.exit_code) or (known.get("status") == "failed" and known["began"] >= began):
        return
    said = (run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    write_state(run.folder, "failed", began, f"its process ended with code {code}: {said}")
