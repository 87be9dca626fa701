"""The stage `fit-judge`: train a judge or a classifier."""

from pathlib import Path

from yonder.data.datasets import with_solutions
from yonder.data.negatives import make_negatives
from yonder.data.responses import (
    read_lines,
    reference_response,
)
from yonder.errors import DataError
from yonder.handing_on import checkpoint_of
from yonder.plans import (
    supervised_plan,
)
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.stages.context import Result, StageContext, collected, responses_task, still_wrong
from yonder.training.checkpoint import CheckpointStore
from yonder.training.fit import HELD_OUT, LIKELIHOOD, balanced, split_by_question
from yonder.training.records import Recorder
from yonder.training.rollout import derived_seed
from yonder.training.supervised import Supervised


def run_fit(stage: FitJudgeStage, context: StageContext) -> Result:
    """Train a judge or classifier on labeled responses, reference solutions and negatives."""
    shop, seed = context.shop, derived_seed(context.recipe.seed, stage.name)
    responses = collected(stage.responses, context)
    for name in stage.data:
        responses += [reference_response(prompt, name) for prompt in with_solutions(shop.solved(name), name)]
    responses = list({(r.question, r.response): r for r in responses}.values())  # [ReFT]: exact duplicates removed
    task = shop.task(stage.data[0]) if stage.data else responses_task(stage.responses, context)
    shares = {str(kind): share for kind, share in stage.negatives.items()}
    responses += still_wrong(make_negatives(responses, shares, seed), task, context)
    training, held_out = split_by_question(responses, stage.held_out, seed)
    if not training or not held_out:
        raise DataError(
            f"stage {stage.name}: {len(responses)} labeled responses are too few to train on and hold out from"
        )
    trainee = shop.trainee(stage, task)
    examples = trainee.examples(training)
    world = shop.world.replicated
    store = CheckpointStore(context.folder / "checkpoints", 2, world=world)
    job = Supervised(
        plan=supervised_plan(stage.name, seed, stage, 1, stage.patience),
        policy=trainee.model,
        examples=lambda epoch: examples if stage.balance == "none" else balanced(examples, seed, epoch),
        loss=trainee.loss,
        recorder=Recorder(context.folder, silent=not world.first),
        store=store,
        progress=context.progress,
        world=world,
        evaluate=trainee.quality(held_out),
        metric=LIKELIHOOD,
        stop=context.stop,
    )
    result = job.run()
    right = sum(bool(r.correct) for r in training) / len(training)
    counts = {"training": len(training), "held_out": len(held_out), "correct_share": right}
    return result | counts | chosen_figures(context.folder, result) | {"checkpoint": checkpoint_of(store, result)}


def chosen_figures(folder: Path, result: Result) -> Result:
    """What the chosen checkpoint of a fit reached on held-out questions."""
    row = next(row for row in read_lines(folder / "metrics.jsonl") if row["epoch"] == result["chosen_step"])
    return {"held_out_figures": {k.removeprefix(HELD_OUT): v for k, v in row.items() if k.startswith(HELD_OUT)}}
