"""The stage `check-judge`: measure a judge before it may train anything."""

from yonder.data.attacks import ATTACKS
from yonder.data.negatives import make_attacks
from yonder.evaluation.judge_check.admission import MASS_FAIL
from yonder.evaluation.judge_check.check import CheckPlan
from yonder.evaluation.judge_check.measuring import measure_judge
from yonder.evaluation.judge_check.sentences import check_sentences
from yonder.recipe.answers import LabelStage
from yonder.recipe.attacks import WITHHELD
from yonder.recipe.judge_stages import CheckJudgeStage
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import labeled_by
from yonder.stages.consent import refuse_judge
from yonder.stages.context import Result, StageContext, announce, collected, responses_task, still_wrong
from yonder.storage import write_json


def run_check(stage: CheckJudgeStage, context: StageContext) -> Result:
    """Measure a reward against verified responses and the attack suite; a judge that fails stops the run."""
    recipe, settings = context.recipe, context.recipe.rewards.get(stage.reward)
    responses = collected(stage.responses, context)
    task = responses_task(stage.responses, context)
    attacks = make_attacks(responses, stage.attack_questions, recipe.seed)  # the same for every reward
    responses += still_wrong(attacks, task, context)
    reward = context.shop.reward(stage.reward, task)
    announce(context)
    context.progress.start(stage.name, 1)
    plan = CheckPlan(
        delta=getattr(settings, "delta", 0.0) or 0.5,
        floor=stage.floor,
        mass_floor=min(MASS_FAIL, getattr(settings, "mass_floor", MASS_FAIL)),
        attacks=ATTACKS,
        withheld=WITHHELD,
        likelihood_questions=stage.likelihood_questions,
    )
    check = measure_judge(reward, responses, plan, context.shop.judge_usage)
    context.progress.finish()
    known = [
        f"what is right is known from {_labels(recipe, source)} alone (stage `{name}`)"
        for name in stage.responses
        if isinstance(source := recipe.stage(name), LabelStage)
    ]
    for sentence in known:
        context.progress.say(f"{stage.name}: {sentence}")
    write_json(context.folder / "judge_check.json", check.to_json() | ({"known_from": known} if known else {}))
    for sentence in check_sentences(check):
        context.progress.say(f"{stage.name}: {sentence}")
    refuse_judge(recipe, stage, check.admission)
    result: Result = {"verdict": check.admission.verdict, "sentence": check.admission.why}
    if check.attacks is not None:
        result["attacks"] = check.attacks.overall.rate
        result["withheld_attacks"] = check.attacks.withheld.rate
    return result


def _labels(recipe: Recipe, source: LabelStage) -> str:
    judge = source.judge if isinstance(source.judge, str) else f"{source.name}.judge"
    return "votes" if labeled_by(recipe, source) == "vote" else f"labels of `{judge}`"
