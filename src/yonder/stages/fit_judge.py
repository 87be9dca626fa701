"""The stage `fit-judge`: train a judge or a classifier."""

from collections.abc import Callable, Sequence
from pathlib import Path

from yonder.core.statistics import wilson
from yonder.data.datasets import with_solutions
from yonder.data.negatives import make_negatives
from yonder.data.responses import (
    read_lines,
    reference_response,
)
from yonder.errors import DataError
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.schema import Response
from yonder.stages.context import Result, StageContext, collected, responses_task, still_wrong
from yonder.stages.handing_on import checkpoint_of
from yonder.stages.plans import (
    supervised_plan,
)
from yonder.training.checkpoint import CheckpointStore
from yonder.training.fit import HELD_OUT, LENGTH, LIKELIHOOD, SOURCE, Trainee, balanced, split_by_question
from yonder.training.records import Recorder
from yonder.training.rollout import derived_seed
from yonder.training.supervised import Example, Supervised

KINDS = ("by_source", "by_length")


def run_fit(stage: FitJudgeStage, context: StageContext) -> Result:
    """Train a judge or classifier on labeled responses, reference solutions and negatives."""
    shop, seed = context.shop, derived_seed(context.recipe.seed, stage.name)
    responses = collected(stage.responses, context)
    for name in stage.data:
        responses += [reference_response(prompt, name) for prompt in with_solutions(shop.solved(name), name)]
    responses = distinct(responses)
    task = shop.task(stage.data[0]) if stage.data else responses_task(stage.responses, context)
    shares = {str(kind): share for kind, share in stage.negatives.items()}
    responses += still_wrong(make_negatives(responses, shares, seed), task, context)
    training, held_out = split_by_question(responses, stage.held_out, seed)
    if not training or not held_out:
        raise DataError(
            f"stage {stage.name}: {len(responses)} labeled responses are too few to train on and hold out from; "
            "collect answers to more questions, or raise `held_out`"
        )
    trainee = shop.trainee(stage, task)
    examples = examples_by_epoch(stage, trainee, training, seed)
    world = shop.world.replicated
    store = CheckpointStore(context.folder / "checkpoints", 2, world=world)
    job = Supervised(
        plan=supervised_plan(stage.name, seed, stage, 1, stage.patience, trainee.model.device),
        policy=trainee.model,
        examples=examples,
        loss=trainee.loss,
        recorder=Recorder(context.folder, silent=not world.first),
        store=store,
        progress=context.progress,
        world=world,
        evaluate=trainee.quality(held_out, sliced=True),
        metric=LIKELIHOOD,
        stop=context.stop,
    )
    result = job.run()
    right = sum(bool(r.correct) for r in training) / len(training)
    counts = {"training": len(training), "held_out": len(held_out), "correct_share": right}
    figures = chosen_figures(context.folder, result)
    figures["sentence"] = sentence(figures)
    context.progress.say(f"{stage.name}: {figures['sentence']}")
    return result | counts | figures | {"checkpoint": checkpoint_of(store, result)}


def distinct(responses: Sequence[Response]) -> list[Response]:
    """[ReFT]: exact duplicates removed. The last label stands, with whoever was the first to have it."""
    found: dict[tuple[str, str], Response] = {}
    for response in responses:
        known = found.get((response.question, response.response))
        if known is None or known.correct is not response.correct:
            found[response.question, response.response] = response
    return list(found.values())


def examples_by_epoch(
    stage: FitJudgeStage, trainee: Trainee, training: Sequence[Response], seed: int
) -> Callable[[int], Sequence[Example]]:
    """What is learned in each epoch: every response, as many of each label, or pairs. DataError without a pair."""
    if trainee.pairs is not None:
        pairs = trainee.pairs(training)
        if not pairs(0):
            raise DataError(
                f"stage {stage.name}: among {len(training)} responses no question has a better and a worse one, so "
                "there is no pair; collect more samples a question, add `negatives`, or lower `margin`"
            )
        return pairs
    examples = trainee.examples(training)
    return lambda epoch: examples if stage.balance == "none" else balanced(examples, seed, epoch)


def chosen_figures(folder: Path, result: Result) -> Result:
    """What the chosen checkpoint of a fit reached on held-out questions: in all, by who wrote a response, and by its
    length."""
    row = next(row for row in read_lines(folder / "metrics.jsonl") if row["epoch"] == result["chosen_step"])
    found: Result = {"held_out_figures": {}, "by_source": {}, "by_length": {}}
    for key, value in row.items():
        kind = next((kind for kind in (SOURCE, LENGTH) if key.startswith(kind)), None)
        if kind is not None:
            name, _, figure = key.removeprefix(kind).rpartition("/")
            found["by_source" if kind == SOURCE else "by_length"].setdefault(name, {})[figure] = value
        elif key.startswith(HELD_OUT):
            found["held_out_figures"][key.removeprefix(HELD_OUT)] = value
    for cell in [*found["by_source"].values(), *found["by_length"].values()]:
        share = wilson(cell["accuracy"] * cell["n"], int(cell["n"]))
        cell |= {"n": share.n, "low": share.low, "high": share.high}
    return found


def sentence(found: Result) -> str:
    """The figures of a fit in one sentence."""
    figures = found["held_out_figures"]
    parts = [", ".join(f"{n} {c['accuracy']:.1%} of {c['n']}" for n, c in found[k].items()) for k in KINDS]
    said = f"held-out accuracy {figures['accuracy']:.1%} ({'; '.join(part for part in parts if part)})"
    for name, words in (("pair_accuracy", "pairs in order"), ("ece", "calibration error"), ("brier", "Brier score")):
        if name in figures:
            value = f"{figures[name]:.1%}" if name == "pair_accuracy" else f"{figures[name]:.3f}"
            said += f", {words} {value}"
    return said
