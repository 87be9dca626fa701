"""This side of one worker process: start it, send it programs, read its answers, end it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, cast

from yonder.sandbox.protocol import Limits, Reply, parse_reply, read_frame, write_frame

Kind = Literal["monty", "confined"]

START_LIMIT_S = 60.0
MARGIN_S = 2.0  # past its time limit, a worker has this long to answer before it is killed
DEATH_S = 0.05  # between a worker's end of file and its exit status
_PACKAGES = str(Path(__file__).resolve().parents[2])
# -s, -P: neither the user's site-packages nor the working directory can put a module in the worker's way.
_BOOT = (
    "import sys; sys.path.count({0!r}) or sys.path.insert(0, {0!r})\n"
    "from yonder.sandbox.worker import main; main({1!r})"
)
# Nothing of the parent's environment but what finding the Monty program takes (and, on Windows, starting anything).
_KEPT_VARIABLES = ("PATH", "MONTY_BIN", "SYSTEMROOT")


class WorkerRefused(Exception):
    """The worker started and said that it cannot run programs here, and why."""


class WorkerFailed(Exception):
    """The worker could not be started, or died before it was ready."""


class WorkerProcess:
    """One worker. Not thread-safe, except for `kill_if_overdue`."""

    def __init__(self, kind: Kind, limits: Limits, core: int | None = None) -> None:
        """`core`: the one that it and what it starts run on; None: any."""
        self.kind: Kind = kind
        self.limits = limits
        self.core = core
        self.process: subprocess.Popen[bytes] | None = None
        self.deadline: float | None = None  # by time.monotonic(); for `kill_if_overdue`
        self.overdue = False

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises WorkerRefused or WorkerFailed."""
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        if self.kind == "confined":
            environment = {}
        self.deadline, self.overdue = time.monotonic() + START_LIMIT_S, False
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", _BOOT.format(_PACKAGES, self.kind)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, "PYTHONHASHSEED": "0"},
                start_new_session=True,  # so that Ctrl-C reaches only us, and `kill` reaches all that it started
            )
            write_frame(self._requests, {**self.limits.to_json(), "parent_pid": os.getpid(), "core": self.core})
            answer = read_frame(self._answers)
        except OSError as error:
            self.end()
            raise WorkerFailed(f"the {self.kind} worker could not be started: {error}") from error
        finally:
            self.deadline = None
        if not isinstance(answer, dict):
            status = self.end(DEATH_S)
            why = "did not get ready in time" if self.overdue else f"ended with exit status {status}"
            raise WorkerFailed(f"the {self.kind} worker {why}")
        if "ready" not in answer:
            self.end()
            raise WorkerRefused(str(cast("dict[str, object]", answer).get("refused")))

    @property
    def running(self) -> bool:
        """Whether `start` succeeded and `end` was not called; says nothing of a death in between."""
        return self.process is not None

    @property
    def _requests(self) -> int:
        assert self.process is not None and self.process.stdin is not None
        return self.process.stdin.fileno()

    @property
    def _answers(self) -> int:
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, programs: list[str]) -> None:
        """Hand over a batch; then call `receive` once for each. A dead worker is noticed there."""
        self.deadline = self._next_deadline()
        with contextlib.suppress(OSError):
            write_frame(self._requests, programs)

    def receive(self) -> Reply | None:
        """The next answer; None if the worker died, was killed, or answered nonsense."""
        self.deadline = self._next_deadline()
        limit = 4096 + 12 * (self.limits.output_chars + 300)  # JSON writes one character in up to 12 bytes
        reply = parse_reply(read_frame(self._answers, limit), self.limits.output_chars)
        self.deadline = None
        return reply

    def _next_deadline(self) -> float:
        return time.monotonic() + self.limits.timeout_s + MARGIN_S

    def kill_if_overdue(self) -> None:
        """Kill the worker if its deadline has passed; the thread that waits for it then sees end of file."""
        deadline = self.deadline
        if deadline is not None and time.monotonic() > deadline:
            self.overdue = True
            self._signal()

    def _signal(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:  # reaped: its id may be another's by now
            return
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)

    def end(self, patience_s: float = 0.0) -> int | None:
        """End the worker and all that it started; its exit status, which is its own if it ended within `patience_s`."""
        if self.process is None:
            return None
        time.sleep(patience_s)
        self._signal()
        process, self.process = self.process, None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()
