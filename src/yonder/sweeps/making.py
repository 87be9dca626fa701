"""From a plan to the table: run what is due, collect, write the table's files and the page."""

from typing import Any

from yonder.errors import RunsFailed
from yonder.reporting.page import write_report
from yonder.signals import StopRequest
from yonder.sweeps.command import Asked
from yonder.sweeps.formats import write_tables
from yonder.sweeps.plan import Plan
from yonder.sweeps.running import Sweeper, own_command, run_one
from yonder.sweeps.table import write_sweep
from yonder.training.progress import Progress


def make_run(plan: Plan, name: str, stop: StopRequest, bar: Progress, allow_changes: bool) -> None:
    """One run of a sweep."""
    run_one(plan, plan.chosen(name), stop, bar, allow_changes)


def make_sweep(plan: Plan, asked: Asked, jobs: int, stop: StopRequest, bar: Progress) -> dict[str, Any]:
    """Every run that is not done, then the table."""
    sweeper = Sweeper(plan, stop, bar, asked.allow_changes)
    sweeper.sweep(jobs, lambda run: [*own_command(), *asked.arguments(run)])
    return make_table(plan)


def make_table(plan: Plan) -> dict[str, Any]:
    """Write `sweep.json`, the table's files and the page of what is done; returns what is in `sweep.json`."""
    found = write_sweep(plan)
    write_tables(plan.folder, found)
    if any(run["status"] == "done" for row in found["rows"] for run in row["runs"]):
        write_report([plan.folder])
    return found


def refuse_failed(found: dict[str, Any], collecting: bool = False) -> None:
    """Raise RunsFailed where a run failed, and unless `collecting` where one is not done."""
    runs = [(row["name"], run) for row in found["rows"] for run in row["runs"]]
    failed = [(name, run) for name, run in runs if run["status"] == "failed"]
    if failed:
        name, run = failed[0]
        raise RunsFailed(
            f"{len(failed)} of {len(runs)} runs failed, first {name}, seed {run['seed']}: {run['error']}; the same "
            "command tries them again"
        )
    missing = [(name, run) for name, run in runs if run["status"] != "done"]
    if missing and not collecting:
        name, run = missing[0]
        raise RunsFailed(
            f"{len(missing)} of {len(runs)} runs are not done, first {name}, seed {run['seed']}: {run['status']}; the "
            "table is without them, and the same command goes on"
        )
