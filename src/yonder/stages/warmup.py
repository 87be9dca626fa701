"""The stage `warmup`: supervised fine-tuning."""

from yonder.data.datasets import with_solutions
from yonder.recipe.stages import WarmupStage
from yonder.stages.context import Result, StageContext, development_accuracy
from yonder.stages.handing_on import handed_on
from yonder.stages.plans import (
    supervised_plan,
)
from yonder.training.checkpoint import CheckpointStore
from yonder.training.records import Recorder
from yonder.training.rollout import derived_seed
from yonder.training.sft_losses import LanguageLoss
from yonder.training.supervised import Supervised
from yonder.training.warmup import sft_examples


def run_warmup(stage: WarmupStage, context: StageContext) -> Result:
    """SFT on reference solutions, or on a teacher's."""
    shop = context.shop
    policy = shop.policy(stage.policy, train=True)
    task = shop.task(stage.data)
    everything = shop.solved(stage.data)
    prompts = with_solutions(everything, stage.data)
    encoder = shop.encoder(policy, task, sft=True)
    seed = derived_seed(context.recipe.seed, stage.name)
    store = CheckpointStore(context.folder / "checkpoints", 2, context.recipe.policy.lora is not None, shop.world)
    measure = development_accuracy(stage.evaluate, policy, context)
    job = Supervised(
        plan=supervised_plan(stage.name, seed, stage, stage.evaluate.every, stage.evaluate.patience, policy.device),
        policy=policy,
        examples=sft_examples(shop.epochs(stage.data, prompts), encoder),
        loss=LanguageLoss(policy, stage.prompt_loss),
        recorder=Recorder(context.folder, silent=not shop.world.first),
        store=store,
        progress=context.progress,
        world=shop.world,
        evaluate=None if measure is None else lambda: {"development/accuracy": measure()},
        stop=context.stop,
    )
    result = job.run()
    return result | {
        "checkpoint": handed_on(context.recipe, stage.name, store, result, policy),
        "examples": len(prompts),
        "without_solution": len(everything) - len(prompts),
    }
