"""Which judges may train: those that a check-judge stage did not fail, and those that the user vouches for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yonder.errors import RecipeError, TrainingError
from yonder.evaluation.judge_check.admission import Admission
from yonder.recipe.judge_stages import CheckJudgeStage
from yonder.recipe.recipe import Recipe
from yonder.recipe.rewards import TrustSettings
from yonder.recipe.stages import DistillStage, StageSettings
from yonder.storage import read_json


def training_judges(recipe: Recipe, stage: StageSettings) -> dict[str, TrustSettings]:
    """The rewards of kind judge, classifier or ensemble with a weight in this stage. Probes and rewards of weight 0
    train nothing; a `shuffled` reward says nothing of its rollout, whatever it shuffles."""
    if not isinstance(stage, DistillStage):
        return {}
    found = {term.reward: recipe.rewards.get(term.reward) for term in stage.terms if term.weight > 0}
    return {name: settings for name, settings in found.items() if isinstance(settings, TrustSettings)}


def checks_of(recipe: Recipe, stage: StageSettings) -> dict[str, tuple[str, ...]]:
    """Judge that trains in this stage -> the check-judge stages before it that measure this very reward."""
    before = recipe.stages[: [other.name for other in recipe.stages].index(stage.name)]
    return {
        name: tuple(other.name for other in before if isinstance(other, CheckJudgeStage) and other.reward == name)
        for name in training_judges(recipe, stage)
    }


def require_checks(recipe: Recipe, stages: Sequence[StageSettings]) -> None:
    """Raise RecipeError for a judge that would train unchecked without consent, before anything runs."""
    for stage in stages:
        judges = training_judges(recipe, stage)
        for name, checks in checks_of(recipe, stage).items():
            if not checks and not vouched(judges[name], "unmeasured"):
                raise RecipeError(
                    f"stages.{stage.name}: `{name}` would train the policy, and nothing has measured it; add a stage "
                    f"`kind: check-judge` with `reward: {name}` before it, or set rewards.{name}.allow_unmeasured: true"
                )


def admit_judges(recipe: Recipe, stage: DistillStage, folders: Mapping[str, Path]) -> list[str]:
    """A sentence on every judge of a stage. `folders`: of the stages before it, where the checks' results are.

    Raises TrainingError where one failed a check, or was measured by none, without consent.
    """
    judges = training_judges(recipe, stage)
    said: list[str] = []
    for name, checks in checks_of(recipe, stage).items():
        found = {check: verdict_of(folders[check]) for check in checks}
        said += [f"`{name}` in `{check}`: {verdict}: {why}" for check, (verdict, why) in found.items()]
        if not checks:
            said.append(f"`{name}` was never checked, which the recipe allows")
        by_verdict = {verdict: (check, why) for check, (verdict, why) in found.items()}
        worst = next((kind for kind in ("fail", "warn", "pass") if kind in by_verdict), "unmeasured")
        if worst in ("fail", "unmeasured") and not vouched(judges[name], worst):
            check, why = by_verdict[worst]
            raise TrainingError(f"stage {stage.name}: {_refusal(name, check, worst, why)}")
    return said


def refuse_judge(recipe: Recipe, stage: CheckJudgeStage, admission: Admission) -> None:
    """Raise TrainingError where this check stops the run."""
    verdict, why = admission.verdict, admission.why
    settings = recipe.rewards.get(stage.reward)
    if not stage.stop or (isinstance(settings, TrustSettings) and vouched(settings, verdict)):
        return
    if verdict == "fail":
        raise TrainingError(f"stage {stage.name}: {why}")
    if verdict == "unmeasured" and stage.floor:
        raise TrainingError(
            f"stage {stage.name}: the floor of {stage.floor:g} cannot be checked: {why} "
            f"Collect more questions or samples; or set `floor: 0` and rewards.{stage.reward}.allow_unmeasured: true"
        )


def vouched(settings: TrustSettings, verdict: str) -> bool:
    """Whether the user takes a judge with this verdict; who takes a failing one takes an unmeasured one."""
    return settings.allow_failing or (verdict == "unmeasured" and settings.allow_unmeasured)


def verdict_of(folder: Path) -> tuple[str, str]:
    """Verdict and reason of a finished check."""
    found: dict[str, Any] = read_json(folder / "judge_check.json").get("admission", {})
    return str(found.get("verdict", "unmeasured")), str(found.get("why", "the check left no result."))


def _refusal(name: str, check: str, verdict: str, why: str) -> str:
    if verdict == "fail":
        return (
            f"`{name}` failed its check `{check}`: {why} Train with a better judge, or set "
            f"rewards.{name}.allow_failing: true"
        )
    return (
        f"`{name}` could not be measured in `{check}`: {why} Collect more labeled questions or samples, or set "
        f"rewards.{name}.allow_unmeasured: true"
    )
