"""The stage `collect`: responses with labels."""

from yonder.data.responses import (
    append_responses,
    keep_complete,
    label,
    read_responses,
)
from yonder.recipe.answers import CollectStage
from yonder.schema import Response
from yonder.stages.collect_teacher import run_with_teacher
from yonder.stages.context import Result, StageContext
from yonder.training.rollout import derived_seed

FEW_FINISHED = 0.1  # share of responses that ended by themselves


def run_collect(stage: CollectStage, context: StageContext) -> Result:
    """Gather responses and label them; finished questions are kept when the stage is interrupted."""
    if stage.teacher is not None:
        return run_with_teacher(stage, stage.teacher, context)
    shop = context.shop
    policy = shop.policy(stage.policy)
    task = shop.task(stage.data)
    sampler, verifier = shop.sampler(policy, task), shop.verifier(task)
    prompts = shop.data(stage.data)
    path = context.folder / "responses.jsonl"
    most = max(samples for _, samples in stage.per_temperature)
    chunk = max(1, context.recipe.policy.generation_batch // most)
    done = keep_complete(path, stage.samples, chunk)
    context.progress.start(stage.name, len(prompts), done)
    for start in range(done, len(prompts), chunk):
        part = prompts[start : start + chunk]
        found: list[Response] = []
        for temperature, samples in stage.per_temperature:
            if samples:
                seed = derived_seed(context.recipe.seed, stage.name, part[0].id, temperature)
                rollouts = sampler.sample(part, samples, temperature, seed)
                found += [
                    label(r, s, stage.name, temperature)
                    for r, s in zip(rollouts, verifier.score(rollouts), strict=True)
                ]
        append_responses(path, found)
        context.progress.advance(start + len(part), {})
        if start + chunk < len(prompts):
            context.stop.check(f"{stage.name}: saved after {start + len(part)} questions")
    context.progress.finish()
    responses = read_responses(path)
    labeled = [response for response in responses if response.correct is not None]
    right = sum(bool(response.correct) for response in labeled) / len(labeled) if labeled else None
    finished = sum(response.finished for response in responses) / len(responses)
    mend = "" if finished > FEW_FINISHED else "; raise policy.max_completion_tokens or set task.stop"
    said = "no answer is known" if right is None else f"{right:.1%} right"
    context.progress.say(f"{stage.name}: {len(responses)} responses, {said}, {finished:.1%} ended by themselves{mend}")
    return {
        "responses": len(responses),
        "unlabeled": len(responses) - len(labeled),
        "correct": right,
        "finished": finished,
    }
