"""Who of several processes does what in a stage: process 0 leads, the others follow."""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from yonder.assembly.workshop import Workshop
from yonder.errors import YonderError
from yonder.recipe import Recipe
from yonder.signals import StopRequest
from yonder.stages.context import StageContext
from yonder.stages.run import run_stage
from yonder.training.distributed import ALONE, World
from yonder.training.progress import Progress, Silent

SHARED = ("warmup", "fit-judge", "distill")  # kinds of stages that all processes work on


class Task(NamedTuple):
    """A stage to run and where its files are."""

    stage: str
    folder: Path
    folders: Mapping[str, Path]  # of the stages before it
    checkpoints: Mapping[str, Path]
    changed: bool


@dataclass(slots=True)
class Lead:
    """Process 0: runs stages, those of the shared kinds with the others."""

    world: World = ALONE
    together: bool = False  # the others are in the middle of a stage

    def run(self, recipe: Recipe, task: Task, progress: Progress, stop: StopRequest) -> dict[str, Any]:
        """Run a stage; returns its result."""
        shared = recipe.stage(task.stage).kind in SHARED
        if shared:
            self.world.order(task)
        self.together = shared
        result = work_on(recipe, task, self.world if shared else ALONE, progress, stop, self.world.size > 1)
        self.together = False
        return result


@contextmanager
def leading(world: World) -> Generator[Lead]:
    """At its end the others end too. Not where process 0 fails within a shared stage: the others have failed as well,
    or find the connection gone."""
    lead = Lead(world)
    try:
        yield lead
    except BaseException as error:
        if not lead.together:
            with suppress(RuntimeError):
                world.order(None)
                if isinstance(error, YonderError) and error.exit_code == YonderError.exit_code:
                    error.of_all = True
        raise
    world.order(None)


def follow(recipe: Recipe, world: World, stop: StopRequest) -> None:
    """Work on what process 0 says until it says that there is no more."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    logging.getLogger("yonder.data").setLevel(logging.ERROR)  # process 0 reads the same data and says the same
    nothing: Task | None = None
    while (task := world.order(nothing)) is not None:
        work_on(recipe, task, world, Silent(), stop, True)


def work_on(
    recipe: Recipe, task: Task, world: World, progress: Progress, stop: StopRequest, by_prompt: bool
) -> dict[str, Any]:
    """One process's part of a stage."""
    log = task.folder / ("program_results.jsonl" if world.first else f"program_results.{world.rank}.jsonl")
    shop = Workshop(recipe, task.checkpoints, log, world, by_prompt, task.folders)
    try:
        context = StageContext(recipe, shop, task.folder, dict(task.folders), progress, stop, task.changed)
        result = run_stage(recipe.stage(task.stage), context)
        usage = shop.judge_usage()
        return result | ({"judge_usage": usage} if usage else {})
    finally:
        shop.close()
