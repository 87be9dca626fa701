"""What running one program gives back, and what a sandbox counts.

A `ProgramResult` holds a number and text that a worker process already reduced to JSON scalars. No object that a
program made ever reaches this process.
"""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "error", "timeout", "memory", "infrastructure"]
Executor = Literal["monty", "cpython"]


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The outcome of one program.

    `error`, `timeout` and `memory` are the program's own doing, so they are evidence against it. `infrastructure` is
    ours (no worker could be started): it says nothing about the program and must never become a reward.
    """

    status: Status
    value: float | None  # finite; a number exactly when status is "ok"
    detail: str  # class and message of the error, trimmed; empty when ok
    printed: str  # what the program printed, cut at `output_chars`
    seconds: float  # wall clock inside the worker; not repeatable, so never compare it
    executor: Executor  # the one that decided


@dataclass(slots=True)
class Counts:
    """Totals since the sandbox was made, for metrics and the run card."""

    programs: int = 0  # asked for, repeats included
    cache_hits: int = 0  # answered without running: repeats within a call, or known from an earlier one
    replayed: int = 0  # results read from the log at start
    fallbacks: int = 0  # programs which the confined CPython decided
    restarts: int = 0  # worker processes started to replace one that died or was killed
    infrastructure: int = 0  # results with status "infrastructure"
