"""Checks before the first stage what needs no weights: an error in the last stage must not cost the hours before it."""

from collections.abc import Iterator, Sequence

from yonder.data.sources import EMBEDDED, fingerprint, read_records
from yonder.errors import DataError, SandboxError
from yonder.judges.prompt import read_judge_prompt
from yonder.models.loading import load_tokenizer, pick_device
from yonder.recipe import Recipe
from yonder.recipe.recipe import data_of, rewards_of
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings
from yonder.recipe.stages import BASE, DistillStage, EvaluateStage, FitJudgeStage, StageSettings
from yonder.rewards.base import load_function
from yonder.sandbox import Sandbox


def check_inputs(recipe: Recipe, stages: Sequence[StageSettings]) -> None:
    """Find every data file, judge prompt, tokenizer, device and user's reward that these stages name.

    Raises DataError, ModelError, RecipeError or SandboxError for the first that is missing.
    """
    pick_device(recipe.policy.device)
    check_sandbox(recipe)
    for name in dict.fromkeys(name for stage in stages for name in _data_names(recipe, stage)):
        base = name.partition(".")[0]
        settings = recipe.data[base]
        try:
            fingerprint(settings, recipe.data)
        except DataError as error:
            raise DataError(f"data.{base}: {error}") from error
        if settings.source in EMBEDDED:  # cheap to read whole; files and hub data are read when their stage comes
            read_records(settings, base)
    for stage in stages:
        if isinstance(stage, DistillStage):
            for term in stage.terms:
                if ":" in term.reward:
                    load_function(term.reward)
    for name in dict.fromkeys(name for stage in stages for name in rewards_of(recipe, stage)):
        settings = recipe.rewards[name]
        if isinstance(settings, JudgeSettings):
            read_judge_prompt(settings.prompt)
        if isinstance(settings, JudgeSettings | ClassifierSettings):
            pick_device(settings.device)
    for model, tokenizer in dict.fromkeys(pair for stage in stages for pair in _models(recipe, stage)):
        load_tokenizer(model, tokenizer)


def check_sandbox(recipe: Recipe) -> None:
    """Raise SandboxError where a task needs programs to run and none can be."""
    tasks = [recipe.task, *(settings.task for settings in recipe.data.values() if settings.task is not None)]
    if all(task.format != "program" for task in tasks):
        return
    with Sandbox(workers=1) as sandbox:
        result = sandbox.run(["def solution():\n    return 6 * 7"])[0]
    if result.value != 42:
        raise SandboxError(f"programs cannot be run here: {result.detail}; `yonder doctor` says more")


def _data_names(recipe: Recipe, stage: StageSettings) -> list[str]:
    names = [name for _, name in data_of(stage)]
    if isinstance(stage, EvaluateStage):
        names += [recipe.benchmarks[name].data for name in stage.benchmarks]
    return names


def _models(recipe: Recipe, stage: StageSettings) -> Iterator[tuple[str, str | None]]:
    """(model, its tokenizer if named) for every model that is not made by a stage or fresh."""
    found: list[tuple[object, str | None]] = []
    if isinstance(stage, FitJudgeStage):
        found.append((stage.model, stage.tokenizer))
    elif BASE in getattr(stage, "checkpoints", ()) or getattr(stage, "policy", "stage:") is None:
        found.append((recipe.policy.model, recipe.policy.tokenizer))
    for name in rewards_of(recipe, stage):
        found.append((getattr(recipe.rewards[name], "model", None), None))
    for model, tokenizer in found:
        if isinstance(model, str) and not model.startswith("stage:"):
            yield model, tokenizer
