"""What every stage gets, and what several kinds of stage do with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.assembly.workshop import Workshop
from yonder.data.attacks import ALWAYS_WRONG
from yonder.data.responses import (
    as_rollout,
    left_responses,
)
from yonder.evaluation.benchmarks import evaluate
from yonder.models.policy import Policy
from yonder.recipe.data import TaskSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import answered_task
from yonder.recipe.stage_base import EvaluationSchedule
from yonder.schema import Response
from yonder.signals import StopRequest
from yonder.training.progress import Progress

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage gets."""

    recipe: Recipe
    shop: Workshop
    folder: Path  # this stage's own folder
    folders: dict[str, Path]  # folders of the stages before it
    progress: Progress
    stop: StopRequest
    changed: bool = False  # the recipe or data did since the stage was begun, and the user allowed it


def collected(names: Sequence[str], context: StageContext) -> list[Response]:
    """The labeled responses of these stages; those without a label are left out."""
    found = [r for name in names for r in left_responses(context.folders[name])]
    return [response for response in found if response.correct is not None]


def responses_task(names: Sequence[str], context: StageContext) -> TaskSettings:
    """The task format of the data set that the first of these collect or label stages answered."""
    return answered_task(context.recipe, names)


def still_wrong(negatives: Sequence[Response], task: TaskSettings, context: StageContext) -> list[Response]:
    """Made negatives without those whose answer is right all the same. Where no verifier can say, only those that are
    wrong whatever the task are kept."""
    verifier = context.shop.together(context.shop.verifier(task))
    scores = verifier.score([as_rollout(response) for response in negatives])
    return [
        r
        for r, score in zip(negatives, scores, strict=True)
        if (not score.details["correct"] if score.value is not None else {r.source, r.detail} & ALWAYS_WRONG)
    ]


def announce(context: StageContext) -> None:
    """Say how each judge of this stage reads its verdict: a wrong template shows here first."""
    for name, sentence in context.shop.judges().items():
        context.progress.say(f"judge {name}: {sentence}")


def development_accuracy(
    settings: EvaluationSchedule, policy: Policy, context: StageContext
) -> Callable[[], float] | None:
    """Greedy accuracy of the live policy on the development split, if the recipe names one."""
    if settings.data is None or not settings.every:
        return None
    shop, task = context.shop, context.shop.task(settings.data)
    prompts = shop.data(settings.data)[: settings.limit]
    sampler, verifier = shop.sampler(policy, task), shop.together(shop.verifier(task))
    return lambda: evaluate(prompts, sampler, verifier).accuracy.value
