"""What in a recipe refers to what, by name."""

from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage
from yonder.recipe.judge_stages import CheckJudgeStage, FitJudgeStage
from yonder.recipe.rewards import (
    EnsembleSettings,
    ShuffledSettings,
)
from yonder.recipe.sections import Sections
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage


def stage_inputs(recipe: Sections, stage: StageSettings) -> tuple[str, ...]:
    """Names of the stages whose results this stage reads, in recipe order."""
    names: set[str] = {reference.removeprefix("stage:") for reference in model_references(recipe, stage)}
    if isinstance(stage, FitJudgeStage | CheckJudgeStage):
        names.update(stage.responses)
    if isinstance(stage, EvaluateStage | AlpacaEvalStage):
        names.update(stage.checkpoints)
    if isinstance(stage, DistillStage) and stage.refit is not None:
        names.update(stage.refit.replay)
    return tuple(other.name for other in recipe.stages if other.name in names)


def model_references(recipe: Sections, stage: StageSettings) -> set[str]:
    """Every `stage:NAME` that this stage's models refer to, through its rewards too."""
    models: list[object] = []
    if isinstance(stage, WarmupStage | CollectStage | DistillStage):
        models.append(stage.policy)
    if isinstance(stage, DistillStage):
        models.append(stage.reference)
    if isinstance(stage, FitJudgeStage):
        models.append(stage.model)
    if isinstance(stage, AlpacaEvalStage):
        models.append(stage.judge.model)
    models += [getattr(recipe.rewards.get(name), "model", None) for name in rewards_of(recipe, stage)]
    return {model for model in models if isinstance(model, str) and model.startswith("stage:")}


def learned_from(recipe: Sections, name: str) -> bool:
    """Whether a later stage trains the model that this stage hands on."""
    return any(
        f"stage:{name}" == (stage.model if isinstance(stage, FitJudgeStage) else stage.policy)
        for stage in recipe.stages
        if isinstance(stage, WarmupStage | DistillStage | FitJudgeStage)
    )


def rewards_of(recipe: Sections, stage: StageSettings) -> tuple[str, ...]:
    """Names of the recipe's rewards that a stage uses, in order of first use; a reward made of others brings them."""
    names: list[str] = []
    if isinstance(stage, DistillStage):
        names = [term.reward for term in stage.terms] + list(stage.monitor.probe)
    if isinstance(stage, CheckJudgeStage):
        names = [stage.reward]
    for name in names:  # grows while members are found
        names += [member for member in members_of(recipe.rewards.get(name)) if member not in names]
    return tuple(dict.fromkeys(name for name in names if ":" not in name))


def members_of(settings: object) -> tuple[str, ...]:
    """Names of the rewards that a reward is made of."""
    if isinstance(settings, ShuffledSettings):
        return (settings.reward,)
    return settings.rewards if isinstance(settings, EnsembleSettings) else ()


def data_of(stage: StageSettings) -> tuple[tuple[str, str], ...]:
    """(recipe key, data set name) for every data set that a stage reads."""
    if isinstance(stage, WarmupStage):
        return (("data", stage.data), *_development(stage.evaluate.data))
    if isinstance(stage, CollectStage):
        return (("data", stage.data),)
    if isinstance(stage, FitJudgeStage):
        return tuple((f"data.{i}", name) for i, name in enumerate(stage.data))
    if isinstance(stage, DistillStage):
        return (
            *((f"terms.{i}.data", term.data) for i, term in enumerate(stage.terms)),
            *_development(stage.evaluate.data),
            *(() if stage.refit is None or stage.refit.data is None else (("refit.data", stage.refit.data),)),
        )
    return ()


def _development(name: str | None) -> tuple[tuple[str, str], ...]:
    return () if name is None else (("evaluate.data", name),)


def data_names(recipe: Sections) -> set[str]:
    """Names that may be used as data: every data set, and its development split where it has one."""
    return set(recipe.data) | {f"{name}.development" for name, settings in recipe.data.items() if settings.development}
