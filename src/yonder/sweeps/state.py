"""What became of a run of a sweep: its record beside the run directory's own files."""

import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from yonder.pipeline.running import finished
from yonder.storage import read_json, write_json
from yonder.sweeps.plan import Run

FILE = "sweep_run.json"
SILENT_S = 900.0  # a run of another machine that has written nothing for so long was killed


def state_of(run: Run) -> str:
    """done, failed, running or pending; done as `pipeline.run` sees it, so a change of recipe or data undoes it."""
    known = read_state(run.folder)
    if not known:
        return "pending"
    if known["status"] in ("failed", "running"):
        return "running" if _alive(run.folder, known) else "failed" if known["status"] == "failed" else "pending"
    return "done" if finished(run.load(), run.stages) else "pending"


def read_state(folder: Path) -> dict[str, Any]:
    """The record; empty before the run was begun, and where it is damaged."""
    known = read_json(folder / FILE)
    return known if "status" in known and "began" in known else {}


def write_state(folder: Path, status: str, began: float, error: str | None = None) -> None:
    """`began`: as time.time() gave it. A process that is killed leaves `running`, with its number to look for."""
    record = {"status": status, "error": error, "began": began, "seconds": time.time() - began}
    write_json(folder / FILE, record | {"process": os.getpid(), "machine": socket.gethostname()})


def works_here(folder: Path) -> bool:
    """Whether a process of this machine works on the run."""
    known = read_state(folder)
    return known.get("machine") == socket.gethostname() and _alive(folder, known)


def silent_for(folder: Path) -> float:
    """Seconds since a run wrote anything into its folder; infinite where it has none."""
    files = (file for pattern in ("*", "stages/*", "stages/*/*") for file in folder.glob(pattern))
    return time.time() - max((file.stat().st_mtime for file in files if file.exists()), default=-math.inf)


def _alive(folder: Path, known: dict[str, Any]) -> bool:
    """Whether the process of a record still works on it; one of another machine as long as it writes."""
    if known["status"] != "running":
        return False
    if known.get("machine") != socket.gethostname():
        return silent_for(folder) < SILENT_S
    try:
        os.kill(int(known["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
