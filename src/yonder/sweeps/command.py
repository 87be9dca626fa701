"""What `yonder sweep` was asked for, and the commands that make one run each; imports no torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.errors import RecipeError
from yonder.sweeps.plan import Plan, Run, plan_sweep
from yonder.sweeps.settings import load_sweep, parse_grid, parse_rows, parse_seeds, shipped_sweeps, slug, table_rows


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of the command, as they were written."""

    name: str
    overrides: Sequence[str] = ()
    grid: Sequence[str] = ()
    rows: Sequence[str] = ()
    seeds: str | None = None
    baseline: str | None = None
    checkpoint: str | None = None
    folder: Path | None = None
    allow_changes: bool = False

    def plan(self) -> Plan:
        """The sweep's runs, all recipes checked; RecipeError for the first mistake."""
        wrong = next((text for text in self.overrides if "=" not in text), None)
        if wrong is not None:
            raise RecipeError(f"override `{wrong}`: write key.sub=value; several sweeps are several commands")
        changes: dict[str, Any] = {}
        if self.overrides:
            changes["overrides"] = list(self.overrides)
        if self.grid:
            changes["grid"] = parse_grid(self.grid)
        if self.rows:
            changes["rows"] = parse_rows(self.rows)
        if self.seeds is not None:
            changes["seeds"] = parse_seeds(self.seeds)
        given = {"baseline": self.baseline, "checkpoint": self.checkpoint}
        sweep, short = load_sweep(
            self.name, changes | {key: value for key, value in given.items() if value is not None}
        )
        return plan_sweep(sweep, self.folder or Path("runs") / f"sweep-{slug(short.removeprefix('sweep-'))}")

    def arguments(self, run: Run) -> list[str]:
        """What makes one of its runs, after the program's name."""
        found = ["sweep", self.name, *self.overrides]
        for option, values in (("--grid", self.grid), ("--row", self.rows)):
            found += [part for value in values for part in (option, value)]
        for option, value in (
            ("--seeds", self.seeds),
            ("--baseline", self.baseline),
            ("--checkpoint", self.checkpoint),
            ("--output-dir", self.folder),
        ):
            found += [option, str(value)] if value is not None else []
        return [*found, *(["--allow-changes"] if self.allow_changes else []), "--run", run.name]


def run_commands(asked: Asked) -> list[str]:
    """A command a run, in any order and on any machine that shares the folder."""
    return [shlex.join(["yonder", *asked.arguments(run)]) for run in asked.plan().runs]


def list_sweeps() -> list[str]:
    """Name, size and title of each shipped sweep."""
    found = {name: load_sweep(name)[0] for name in shipped_sweeps()}
    width = max(map(len, found))
    return [
        f"{name:<{width}}  {len(table_rows(sweep)):>2} rows x {len(sweep.seeds)} seeds  {sweep.title}"
        for name, sweep in found.items()
    ]
