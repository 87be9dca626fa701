"""A sweep as runs: which recipe with which overrides in which folder; imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yonder.errors import RecipeError
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import EvaluateStage
from yonder.sweeps.settings import RowSettings, SweepSettings, slug, table_rows

LOCKS = ".locks"  # in a sweep's folder


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sweep: an ordinary run directory."""

    row: RowSettings
    seed: int
    folder: Path
    recipe: str
    overrides: tuple[str, ...]  # all of them: also seed and output_dir
    stages: tuple[str, ...] | None  # the evaluate stages that show the row's checkpoint; None: all stages

    @property
    def name(self) -> str:
        """As `--run` takes it."""
        return f"{slug(self.row.name)}/{self.seed}"

    @property
    def title(self) -> str:
        """For a line in the terminal."""
        return f"{self.row.name}, seed {self.seed}"

    def load(self) -> Recipe:
        """Its recipe, checked."""
        return load_recipe(self.recipe, self.overrides)


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep's rows and runs."""

    sweep: SweepSettings
    folder: Path
    rows: tuple[RowSettings, ...]
    runs: tuple[Run, ...]  # row by row, each with its seeds

    def of(self, row: RowSettings) -> tuple[Run, ...]:
        """A row's runs."""
        return tuple(run for run in self.runs if run.row.name == row.name)

    def chosen(self, name: str) -> Run:
        """The run that `--run ROW/SEED` names; RecipeError when there is none."""
        for run in self.runs:
            if name in (run.name, f"{run.row.name}/{run.seed}"):
                return run
        raise RecipeError(f"--run {name}: there is no such run; there are: {', '.join(run.name for run in self.runs)}")


def plan_sweep(sweep: SweepSettings, folder: Path) -> Plan:
    """Every run of a sweep, each recipe read and checked: a mistake in the last row is told before the first runs."""
    rows = table_rows(sweep)
    runs: list[Run] = []
    for row in rows:
        overrides = (*sweep.overrides, *row.overrides)
        fixed = next((text for text in overrides if text.startswith(("seed=", "output_dir="))), None)
        if fixed is not None:
            raise RecipeError(f"row {row.name}: `{fixed}` is the sweep's to set; use `seeds`, or --output-dir")
        recipe_name = row.recipe or sweep.recipe
        try:
            recipe = load_recipe(recipe_name, overrides)
            stages, more = _shown(sweep, row, recipe)
            load_recipe(recipe_name, (*overrides, *more))
        except RecipeError as error:
            raise RecipeError(f"row {row.name}: {error}") from None
        for seed in row.seeds or sweep.seeds:
            place = folder / slug(row.name) / f"seed-{seed}"
            whole = (*overrides, *more, f"seed={seed}", f"output_dir={place}")
            runs.append(Run(row, seed, place, recipe_name, whole, stages))
    return Plan(sweep, folder, rows, tuple(runs))


def columns_of(sweep: SweepSettings, row: RowSettings, benchmarks: Sequence[str]) -> dict[str, str]:
    """Column -> benchmark of the recipe, of those that an evaluation has."""
    back = {benchmark: column for column, benchmark in row.benchmarks.items()}
    found = {back.get(name, name): name for name in benchmarks}
    return {column: found[column] for column in sweep.benchmarks or found if column in found}


def _shown(sweep: SweepSettings, row: RowSettings, recipe: Recipe) -> tuple[tuple[str, ...] | None, list[str]]:
    """The evaluate stages that show the row's checkpoint, and the overrides with which they show nothing else."""
    checkpoint = row.checkpoint or sweep.checkpoint
    evaluations = [stage for stage in recipe.stages if isinstance(stage, EvaluateStage)]
    if not evaluations:
        raise RecipeError("the recipe has no stage of kind evaluate, and so nothing for a table; add one")
    unknown = [name for name in row.benchmarks.values() if name not in recipe.benchmarks]
    if unknown:
        raise RecipeError(f"there is no benchmark `{unknown[0]}`; the recipe has {', '.join(recipe.benchmarks)}")
    if checkpoint is not None:
        names = [BASE, *(stage.name for stage in recipe.stages if stage.kind in ("warmup", "distill"))]
        if checkpoint not in names:
            raise RecipeError(f"there is no checkpoint `{checkpoint}`; there are: {', '.join(names)}")
        found = [stage for stage in evaluations if checkpoint in stage.checkpoints]
        evaluations = found or evaluations
    more: list[str] = []
    kept: list[str] = []
    for stage in evaluations:
        columns = columns_of(sweep, row, stage.benchmarks)
        if columns:
            kept.append(stage.name)
            if checkpoint is not None and stage.checkpoints != (checkpoint,):
                more.append(f"stages.{stage.name}.checkpoints=[{checkpoint}]")
            if stage.benchmarks != tuple(columns.values()):
                more.append(f"stages.{stage.name}.benchmarks=[{', '.join(columns.values())}]")
            silent = next((name for name in columns.values() if not recipe.benchmarks[name].votes), None)
            if row.figure == "vote" and silent is not None:
                raise RecipeError(
                    f"`figure: vote` needs votes, and benchmark `{silent}` has none; give benchmarks.{silent}.votes, "
                    "or leave it out of `benchmarks`"
                )
    if not kept:
        have = sorted({name for stage in evaluations for name in stage.benchmarks})
        raise RecipeError(f"none of its benchmarks ({', '.join(have)}) is a column: {', '.join(sweep.benchmarks)}")
    return (None if checkpoint is None else tuple(kept)), more
