"""Which model of a run is exported: the folder of a finished stage."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from yonder.errors import RecipeError, StorageError
from yonder.recipe import load_recipe
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.recipe import Recipe
from yonder.recipe.stages import DistillStage, StageSettings, WarmupStage
from yonder.storage import read_json
from yonder.training.checkpoint import require_whole

Kind = Literal["policy", "judge", "classifier"]
_MODELS = (DistillStage, WarmupStage, FitJudgeStage)  # kinds that leave a model, those first that others lead to


class Chosen(NamedTuple):
    """A model of a run."""

    run: Path
    recipe: Recipe
    stage: StageSettings
    result: dict[str, Any]  # of its stage.json
    model: Path
    kind: Kind


def choose(run: Path, name: str | None) -> Chosen:
    """The model of the named stage; without a name, that of the last finished distill stage, else warm-up, else fit.

    Raises StorageError where there is no such run or no finished stage, RecipeError for a stage without a model.
    """
    if not (run / "recipe.yaml").is_file():
        raise StorageError(f"{run} is no run directory: there is no recipe.yaml in it; give the folder of a run")
    recipe = load_recipe(run / "recipe.yaml")
    stage = _named(recipe, name) if name is not None else _last(run, recipe)
    record = read_json(run / "stages" / stage.name / "stage.json")
    if record.get("status") != "done":
        raise StorageError(
            f"stage {stage.name} of {run} is {record.get('status', 'not begun')}; run its recipe to the end first, or "
            "name another with --stage"
        )
    model = run / "stages" / stage.name / str(record["result"].get("checkpoint"))
    if not model.is_dir():
        raise StorageError(f"the model {model} of stage {stage.name} is gone; run the recipe again")
    require_whole(model.resolve(), stage.name)
    kind: Kind = "policy"
    if isinstance(stage, FitJudgeStage):
        kind = "classifier" if stage.output == "classifier" else "judge"
    return Chosen(run, recipe, stage, record["result"], model, kind)


def _named(recipe: Recipe, name: str) -> StageSettings:
    found = next((stage for stage in recipe.stages if stage.name == name), None)
    if found is None or not isinstance(found, _MODELS):
        have = ", ".join(stage.name for stage in recipe.stages if isinstance(stage, _MODELS))
        wrong = "there is no stage" if found is None else "no model comes of the stage"
        raise RecipeError(f"{wrong} `{name}`; those with a model: {have}")
    return found


def _last(run: Path, recipe: Recipe) -> StageSettings:
    for kind in _MODELS:
        for stage in reversed(recipe.stages):
            if isinstance(stage, kind) and _is_done(run, stage):
                return stage
    raise StorageError(f"no stage of {run} that leaves a model is finished; run its recipe to the end first")


def _is_done(run: Path, stage: StageSettings) -> bool:
    return read_json(run / "stages" / stage.name / "stage.json").get("status") == "done"
