"""Checks before the first stage what needs no weights: an error in the last stage must not cost the hours before it."""

import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from yonder.assembly.judges import judge_prompt
from yonder.data.datasets import load_data, warn_once, with_solutions
from yonder.data.sources import fingerprint, on_hub
from yonder.engines.build import check_engine, check_servers
from yonder.errors import DataError, ModelError, SandboxError
from yonder.evaluation.alpaca_eval import read_inputs
from yonder.generation.picking import require_compiler
from yonder.judges.preference import read_preference_prompt
from yonder.judges.prompt import read_judge_prompt
from yonder.judges.rating import read_rating_prompt
from yonder.models.loading import load_tokenizer, locate, pick_device, pick_devices, require_packing
from yonder.models.lora import require_peft
from yonder.pipeline.lengths import check_lengths
from yonder.recipe import Recipe
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.references import data_of, label_stages, models_of, preferring, rewards_of
from yonder.recipe.rewards import (
    ClassifierSettings,
    JudgeSettings,
    PreferenceSettings,
    RatingSettings,
    RewardSettings,
    TeacherSettings,
)
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage
from yonder.rewards.answers import read_number
from yonder.rewards.base import load_function
from yonder.rewards.unanswerable import NONE
from yonder.sandbox import Sandbox
from yonder.schema import Prompt
from yonder.stages.consent import require_checks
from yonder.teachers.build import asked_of, require_teacher
from yonder.trackers.starting import require_trackers


def check_inputs(recipe: Recipe, stages: Sequence[StageSettings]) -> None:
    """Find every data file, judge prompt, tokenizer, device and user's reward that these stages name.

    Raises DataError, ModelError, RecipeError or SandboxError for the first that is missing.
    """
    require_checks(recipe, stages)
    require_trackers(recipe.trackers)
    pick_device(recipe.policy.device)
    require_compiler(recipe.policy.decoding)
    check_sandbox(recipe)
    loaded = check_data(recipe, stages)
    for stage in stages:
        if getattr(getattr(stage, "refit", stage), "lora", None) is not None:
            require_peft()
        if recipe.policy.lora is not None and isinstance(stage, WarmupStage | DistillStage):
            require_peft()
            require_packing(recipe.policy.quantize)
        asked_of(recipe, stage)
        if isinstance(stage, DistillStage):
            check_engine(stage)
            for term in stage.terms:
                if ":" in term.reward:
                    load_function(term.reward)
    for stage in stages:
        _check_comparisons(stage)
    for name in dict.fromkeys(name for stage in stages for name in rewards_of(recipe, stage)):
        _check_reward(recipe.rewards[name])
    for key, model, tokenizer in dict.fromkeys(found for stage in stages for found in _models(recipe, stage)):
        try:
            locate(model)
            load_tokenizer(model, tokenizer)
        except ModelError as error:
            raise ModelError(f"{key}: {error}") from error
    check_lengths(recipe, stages, loaded)
    for name in dict.fromkeys(name for stage in stages for name in rewards_of(recipe, stage)):
        _check_labels(name, recipe.rewards[name])


def _check_comparisons(stage: StageSettings) -> None:
    """The prompt file and devices of a judge that prefers, and what AlpacaEval compares with."""
    if (judge := preferring(stage)) is not None:
        read_preference_prompt(judge.prompt)
        pick_devices(judge.device)
    if isinstance(stage, AlpacaEvalStage):
        read_inputs(stage)


def _check_reward(settings: RewardSettings) -> None:
    """Its prompt file and devices."""
    if isinstance(settings, JudgeSettings):
        read_judge_prompt(settings.prompt)
    if isinstance(settings, RatingSettings):
        read_rating_prompt(settings.prompt, settings.scale)
    if isinstance(settings, JudgeSettings | ClassifierSettings | RatingSettings | TeacherSettings):
        pick_devices(settings.device)


def _check_labels(name: str, settings: RewardSettings) -> None:
    """Yes and No differ from their first token on, where the judge's tokenizer is at hand."""
    if not isinstance(settings, JudgeSettings) or isinstance(settings, PreferenceSettings):
        return
    known = settings.backend in ("local", "vllm", "sglang", "llama-cpp")
    if not known or not isinstance(settings.model, str) or settings.model.startswith("stage:"):
        return
    try:
        judge_prompt(settings, load_tokenizer(settings.model), settings.every_spelling)
    except ModelError as error:
        raise ModelError(f"rewards.{name}: {error}") from error


def silent_judges(recipe: Recipe, stages: Sequence[StageSettings]) -> Iterator[str]:
    """A sentence for each server of a judge that these stages will ask and where nobody listens now."""
    for name in dict.fromkeys(name for stage in stages for name in rewards_of(recipe, stage)):
        server = getattr(recipe.rewards[name], "server", None)
        for url in server.urls if server is not None else ():
            place = urlsplit(url)
            try:
                with socket.create_connection(
                    (place.hostname or "", place.port or (443 if place.scheme == "https" else 80)), timeout=2
                ):
                    pass
            except OSError as error:
                asked = next(stage.name for stage in stages if name in rewards_of(recipe, stage))
                why = error.strerror or error
                yield f"rewards.{name}: no server answers at {url} ({why}); stage {asked} will ask it"


def check_rollout_servers(stages: Sequence[StageSettings]) -> None:
    """Find the rollout servers of every stage but the first, which waits for its own as long as its recipe says.

    Raises ModelError for the first that is not there or cannot be used.
    """
    for stage in stages[1:]:
        if isinstance(stage, DistillStage) and stage.rollouts.urls:
            check_servers(stage)


def check_teacher(stage: StageSettings) -> None:
    """Raise ModelError where a stage's teacher cannot be asked: before anything is trained for hours."""
    if isinstance(stage, CollectStage) and stage.teacher is not None:
        try:
            require_teacher(stage.teacher)
        except ModelError as error:
            raise ModelError(f"stages.{stage.name}.teacher: {error}") from error


def check_data(recipe: Recipe, stages: Sequence[StageSettings]) -> dict[str, list[Prompt]]:
    """Read every data set of these stages that is at hand, whole; what is on a hub is read when its stage comes."""
    loaded: dict[str, list[Prompt]] = {}
    for name in dict.fromkeys(name for stage in stages for name in _data_names(recipe, stage)):
        base = name.partition(".")[0]
        settings = recipe.data[base]
        try:
            fingerprint(settings, recipe.data)
        except DataError as error:
            raise DataError(f"data.{base}: {error}") from error
        parts = [settings, *(recipe.data[part.partition(".")[0]] for part in settings.mixture or {})]
        if not any(on_hub(part) for part in parts):
            prompts = loaded[name] = load_data(name, recipe.data, recipe.task, recipe.seed)
            if settings.mixture is None and (settings.task or recipe.task).format in ("program", "text"):
                _check_answers(name, prompts)
    for stage in stages:
        if not isinstance(stage, WarmupStage) or label_stages(recipe, stage.data):
            continue  # solutions of a label stage are there when it is done
        if not on_hub(recipe.data[stage.data.partition(".")[0]]):
            with_solutions(load_data(stage.data, recipe.data, recipe.task, recipe.seed), stage.data)
    return loaded


def _check_answers(name: str, prompts: Sequence[Prompt]) -> None:
    """Say which labels are no numbers where numbers are compared, and which questions have none though others do."""
    labeled = [(prompt, prompt.answer) for prompt in prompts if prompt.answer is not None]
    odd = [(prompt, text) for prompt, text in labeled if read_number(text) is None and text != NONE]
    if odd:
        warn_once(
            f"data.{name}: {len(odd)} of {len(labeled)} answers are no numbers, so no response to their questions can "
            f"be verified (first: {odd[0][0].id}, `{odd[0][1][:40]}`)"
        )
    if labeled and len(labeled) < len(prompts):
        first = next(prompt.id for prompt in prompts if prompt.answer is None)
        missing = len(prompts) - len(labeled)
        warn_once(f"data.{name}: {missing} of {len(prompts)} questions have no answer (first: {first})")


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


def _models(recipe: Recipe, stage: StageSettings) -> Iterator[tuple[str, str, str | None]]:
    """(recipe key, model, its tokenizer if named) for every model that is not made by a stage or fresh."""
    found: list[tuple[str, object, str | None]] = []
    if isinstance(stage, CollectStage) and stage.teacher is not None:
        found.append((f"stages.{stage.name}.teacher.tokenizer", stage.teacher.tokenizer, None))
    elif BASE in getattr(stage, "checkpoints", ()) or getattr(stage, "policy", "stage:") is None:
        found.append(("policy.model", recipe.policy.model, recipe.policy.tokenizer))
    tokenizer = stage.tokenizer if isinstance(stage, FitJudgeStage) else None
    found += [(key, model, tokenizer) for key, model in models_of(recipe, stage)]
    for key, model, tokenizer in found:
        if isinstance(model, str) and not model.startswith("stage:"):
            yield key, model, tokenizer
