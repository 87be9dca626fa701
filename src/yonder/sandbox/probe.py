"""What the program sandbox can do on this machine, for `yonder doctor`."""

from dataclasses import dataclass

from yonder.sandbox.process import WorkerFailed, WorkerProcess, WorkerRefused
from yonder.sandbox.protocol import Limits

_PROGRAM = "def solution():\n    return 6 * 7"


@dataclass(frozen=True, slots=True)
class Probe:
    """Findings, each with its reason; empty `*_detail` means that all is well."""

    monty_version: str | None
    monty: bool
    monty_detail: str
    confined: bool  # whether the CPython fallback for what Monty lacks can be confined here
    confined_detail: str


def probe() -> Probe:
    """Start one worker of each kind, have it run one program, and end it. Takes about half a second."""
    from importlib import metadata  # slow to import, and only needed here

    try:
        version = metadata.version("pydantic-monty")
    except metadata.PackageNotFoundError:
        version = None
    monty_detail = _try(WorkerProcess("monty", Limits()))
    confined_detail = _try(WorkerProcess("confined", Limits()))
    return Probe(version, not monty_detail, monty_detail, not confined_detail, confined_detail)


def _try(worker: WorkerProcess) -> str:
    try:
        worker.start()
        worker.send([_PROGRAM])
        reply = worker.receive()
    except (WorkerFailed, WorkerRefused) as error:
        return str(error)
    finally:
        worker.end()
    if reply is None or reply.value != 42.0:
        return f"6 * 7 came back as {reply}"
    return ""
