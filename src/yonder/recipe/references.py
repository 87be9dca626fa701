"""What in a recipe refers to what, by name."""

from collections.abc import Iterable, Sequence
from typing import Literal

from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage, LabelStage
from yonder.recipe.data import TaskSettings
from yonder.recipe.judge_stages import CheckJudgeStage, FitJudgeStage
from yonder.recipe.rewards import (
    EnsembleSettings,
    PreferenceSettings,
    ShuffledSettings,
)
from yonder.recipe.sections import Sections
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage

BY_NAME = ("openai", "votes")  # backends that know a judge by its name alone


def stage_inputs(recipe: Sections, stage: StageSettings) -> tuple[str, ...]:
    """Names of the stages whose results this stage reads, in recipe order."""
    names: set[str] = {reference.removeprefix("stage:") for reference in model_references(recipe, stage)}
    names.update(responses_of(stage), labels_of(recipe, stage))
    if isinstance(stage, EvaluateStage | AlpacaEvalStage):
        names.update(stage.checkpoints)
    return tuple(other.name for other in recipe.stages if other.name in names)


def responses_of(stage: StageSettings) -> tuple[str, ...]:
    """Names of the stages whose responses a stage reads."""
    if isinstance(stage, LabelStage):
        return (*stage.teacher, *stage.responses)
    if isinstance(stage, FitJudgeStage | CheckJudgeStage):
        return stage.responses
    return stage.refit.replay if isinstance(stage, DistillStage) and stage.refit is not None else ()


def labels_of(recipe: Sections, stage: StageSettings) -> set[str]:
    """Names of the label stages whose labels stand in the data that a stage reads."""
    names = [name for _, name in data_of(stage)]
    if isinstance(stage, EvaluateStage):
        names += [recipe.benchmarks[name].data for name in stage.benchmarks]
    return {label for name in names for label in label_stages(recipe, name)}


def label_stages(recipe: Sections, name: str) -> set[str]:
    """Names of the label stages of a data set, or of a mixture's parts."""
    found: set[str] = set()
    names = [name.partition(".")[0]]
    for base in names:  # grows while parts are found
        settings = recipe.data.get(base)
        if settings is not None:
            found |= {settings.labels.removeprefix("stage:")} if settings.labels is not None else set()
            parts = (part.partition(".")[0] for part in settings.mixture or {})
            names += [part for part in parts if part not in names]
    return found


def label_teachers(recipe: Sections, name: str) -> tuple[str, ...]:
    """Names of the stages whose answers vote in a label stage."""
    stage = recipe.stage(name)
    return stage.teacher if isinstance(stage, LabelStage) else ()


def labeled_by(recipe: Sections, stage: LabelStage) -> Literal["vote", "judge", "pairwise"]:
    """How a label stage labels: `auto` looks at the task of what its first stage answered."""
    if stage.by != "auto":
        return stage.by
    return "judge" if answered_task(recipe, stage.teacher).format == "open" else "vote"


def votes_for_itself(recipe: Sections, stage: LabelStage) -> tuple[str, ...]:
    """Names of the stages whose answers vote and are the policy's own: of policy.model, or of a stage that a later one
    trains on."""
    trained = [other.policy for other in recipe.stages if isinstance(other, WarmupStage | DistillStage)]
    own = [recipe.policy.model, *(model for model in trained if str(model).startswith("stage:"))]
    answered = {other.name: other for other in recipe.stages if isinstance(other, CollectStage)}
    return tuple(
        name
        for name in stage.teacher
        if (one := answered[name]).teacher is None and (one.policy is None or one.policy in own)
    )


def answered_task(recipe: Sections, names: Sequence[str]) -> TaskSettings:
    """The task format of the data set that the first of these collect or label stages answered."""
    stages = {stage.name: stage for stage in recipe.stages}
    stage = stages.get(names[0]) if names else None
    if isinstance(stage, LabelStage):
        stage = stages.get(stage.teacher[0])
    data = recipe.data.get(stage.data.partition(".")[0]) if isinstance(stage, CollectStage) else None
    return (data.task if data is not None else None) or recipe.task


def models_of(recipe: Sections, stage: StageSettings) -> tuple[tuple[str, str], ...]:
    """(recipe key, model) for every model that this stage names and loads, through its rewards too; neither fresh ones
    nor the recipe's policy.model."""
    key = f"stages.{stage.name}"
    models: list[tuple[str, object]] = []
    if isinstance(stage, WarmupStage | CollectStage | DistillStage):
        models.append((f"{key}.policy", stage.policy))
    if isinstance(stage, DistillStage):
        models.append((f"{key}.reference", stage.reference))
    if isinstance(stage, FitJudgeStage):
        models.append((f"{key}.model", stage.model))
    judge = preferring(stage)
    if judge is not None and judge.backend not in BY_NAME:
        models.append((f"{key}.judge.model", judge.model))
    for name in rewards_of(recipe, stage):
        settings = recipe.rewards.get(name)
        model = getattr(settings, "model", None)
        if getattr(settings, "backend", "local") not in BY_NAME or str(model).startswith("stage:"):
            models.append((f"rewards.{name}.model", model))
    return tuple((where, model) for where, model in models if isinstance(model, str))


def model_references(recipe: Sections, stage: StageSettings) -> set[str]:
    """Every `stage:NAME` that this stage's models refer to, through its rewards too."""
    return {model for _, model in models_of(recipe, stage) if model.startswith("stage:")}


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
    if isinstance(stage, LabelStage) and isinstance(stage.judge, str) and labeled_by(recipe, stage) == "judge":
        names = [stage.judge]
    for name in names:  # grows while members are found
        names += [member for member in members_of(recipe.rewards.get(name)) if member not in names]
    return tuple(dict.fromkeys(name for name in names if ":" not in name))


def preferring(stage: StageSettings) -> PreferenceSettings | None:
    """The judge that prefers one of two responses in this stage, if there is one."""
    judge = stage.judge if isinstance(stage, AlpacaEvalStage | LabelStage) else None
    return judge if isinstance(judge, PreferenceSettings) else None


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


def samples(stage: StageSettings) -> bool:
    """Whether the policy's sampling settings decide what comes of it: SFT that looks at no accuracy writes nothing."""
    if isinstance(stage, WarmupStage):
        return stage.evaluate.data is not None
    return not isinstance(stage, FitJudgeStage | CheckJudgeStage)


def trained_on(recipe: Sections, name: str) -> tuple[str, ...]:
    """Data sets whose questions made the checkpoint of a stage what it is: those that it and the stages before it were
    trained on, and those that their fitted judges and labels come from. `base` was trained on none of the recipe."""
    return _behind(recipe, name, choosing=False)


def chosen_on(recipe: Sections, name: str) -> tuple[str, ...]:
    """Data sets that were looked at to choose a checkpoint, of a stage or of one before it."""
    return _behind(recipe, name, choosing=True)


def _behind(recipe: Sections, name: str, choosing: bool) -> tuple[str, ...]:
    found: list[str] = []
    waiting = [stage for stage in recipe.stages if stage.name == name]
    for stage in waiting:  # grows
        found += [data for key, data in data_of(stage) if (key == "evaluate.data") == choosing]
        names = {other.name for other in waiting}
        waiting += [recipe.stage(other) for other in stage_inputs(recipe, stage) if other not in names]
    return tuple(dict.fromkeys(found))


def _development(name: str | None) -> tuple[tuple[str, str], ...]:
    return () if name is None else (("evaluate.data", name),)


def data_behind(recipe: Sections, names: Iterable[str]) -> tuple[str, ...]:
    """The data sets that decide what is in these: they themselves, the parts of mixtures, the worked questions that
    stand before others, those that others are without, and those over one of their sources that set a development
    split apart."""
    found = [name.partition(".")[0] for name in names]
    for name in found:  # grows
        settings = recipe.data[name]
        found += [other for other in [*(settings.mixture or {}), *settings.without] if other not in found]
        shots = (settings.shots_from or name).partition(".")[0]
        found += [shots] if shots not in found else []
    sources = {(recipe.data[name].source, recipe.data[name].split) for name in found} - {(None, "train")}
    apart = {name for name, data in recipe.data.items() if data.development and (data.source, data.split) in sources}
    return tuple(name for name in recipe.data if name in {*found, *apart})


def data_names(recipe: Sections) -> set[str]:
    """Names that may be used as data: every data set, and its development split where it has one."""
    return set(recipe.data) | {f"{name}.development" for name, settings in recipe.data.items() if settings.development}
