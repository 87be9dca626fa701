"""What moves a judge while a distill stage trains, from the recipe: a refit on fresh responses, or following the
policy."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from yonder.assembly.workshop import Workshop
from yonder.data.responses import left_responses
from yonder.judges.local import LocalJudge
from yonder.models.classifier import Classifier, LocalClassifier
from yonder.models.lora import Lora, add_lora
from yonder.models.padding import tokens_at_once
from yonder.models.policy import Policy
from yonder.protocols import Reward, Sampler
from yonder.recipe.models import LoraSettings
from yonder.recipe.monitoring import RefitSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import members_of
from yonder.recipe.stages import DistillStage
from yonder.rewards.classifier import ClassifierReward
from yonder.rewards.judge import JudgeRolloutReward, guarded
from yonder.schema import Prompt, Rollout
from yonder.training.fit import Trainee, classifier_trainee, judge_trainee
from yonder.training.follow import Follow
from yonder.training.refit import Answered, Gathered, Refit, RefitPlan, Source
from yonder.training.rollout import Term, derived_seed

Read = Callable[[Rollout], bool]  # whether a reward reads a rollout at all


def build_refit(
    stage: DistillStage, shop: Workshop, policy: Policy, labeled: Term | None, folders: Mapping[str, Path]
) -> Refit | None:
    """The refit that a stage asks for. `labeled`: its verifiable term; `folders`: of the stages before it."""
    settings, recipe = stage.refit, shop.recipe
    if settings is None:
        return None
    stream = settings.data if settings.data is not None or labeled is None else labeled.stream
    task = recipe.task if stream is None else shop.task(stream)
    trainee, read = reward_trainee(shop, shop.reward(settings.reward, task), settings.lora)
    replay = [response for name in settings.replay for response in left_responses(folders[name])]
    return Refit(
        refit_plan(stage, settings, recipe, trainee.model.device),
        trainee,
        fresh_source(stage, settings, shop, policy, labeled, read),
        [response for response in replay if response.correct is not None],
        shop.world.replicated,
    )


def build_follow(stage: DistillStage, shop: Workshop, policy: Policy) -> Follow | None:
    """The judge that follows the policy, if the stage asks for one."""
    if stage.follow is None:
        return None
    name = stage.follow.reward
    data = next((term.data for term in stage.terms if term.reward == name), stage.terms[0].data)
    trainee, _ = reward_trainee(shop, shop.reward(name, shop.task(data)), None)
    return Follow(name, trainee.model, policy, stage.follow.every, stage.follow.share)


def refit_plan(stage: DistillStage, settings: RefitSettings, recipe: Recipe, device: torch.device) -> RefitPlan:
    """The numbers of a refit."""
    return RefitPlan(
        reward=settings.reward,
        rewards=refitted_rewards(recipe, settings.reward),
        every=settings.every,
        steps=settings.steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
        held_out=settings.held_out,
        grad_clip=stage.optimizer.grad_clip,
        micro_batch_tokens=tokens_at_once(stage.optimizer.micro_batch_tokens, device),
        seed=derived_seed(recipe.seed, stage.name),
    )


def refitted_rewards(recipe: Recipe, reward: str) -> frozenset[str]:
    """A reward and those made of it."""
    return frozenset({reward, *(name for name, other in recipe.rewards.items() if reward in members_of(other))})


def reward_trainee(shop: Workshop, reward: Reward, lora: LoraSettings | None) -> tuple[Trainee, Read]:
    """The very weights that a reward reads, to be trained. The recipe was checked: it is a local judge or a
    classifier."""
    adapter = None if lora is None else Lora(**lora.model_dump())
    if isinstance(reward, JudgeRolloutReward) and isinstance(reward.judge.model, LocalJudge):
        judge, rules = reward.judge.model, reward.judge.rules
        network = judge.trunk.model
        if adapter is not None:
            add_lora(network, adapter, shop.recipe.seed)
        policy = Policy(network, judge.prompt.tokenizer)
        policy.autocast = shop.autocast
        return judge_trainee(policy, judge, rules, 0.0), lambda rollout: guarded(rollout, rules) is None
    if isinstance(reward, ClassifierReward) and isinstance(reward.model, LocalClassifier):
        scorer = reward.model
        if adapter is not None:
            add_lora(scorer.model, adapter, shop.recipe.seed, head=True)
        classifier = Classifier(scorer.model, scorer.tokenizer)
        return classifier_trainee(
            classifier, scorer
        ), lambda rollout: rollout.completion.finished and bool(rollout.completion.text.strip())
    raise TypeError(f"{type(reward).__name__} has no weights to fit")


def fresh_source(
    stage: DistillStage,
    settings: RefitSettings,
    shop: Workshop,
    policy: Policy,
    labeled: Term | None,
    read: Read,
) -> Source:
    """The rollouts of the labeled stream, or answers to prompts of a data set of their own."""
    sampling = stage.sampling
    if settings.data is None and labeled is not None:
        iterations = max(settings.every, stage.monitor.window)
        return Gathered(labeled.reward_name, labeled.stream, sampling.temperature, read, iterations)
    name = str(settings.data)
    task = shop.task(name)
    sampler: Sampler = shop.sampler(policy, task)

    def answer(prompts: list[Prompt], seed: int) -> list[Rollout]:
        return sampler.sample(prompts, stage.group_size, sampling.temperature, seed, sampling.top_p, sampling.top_k)

    return Answered(
        name, shop.stream(name), settings.prompts, answer, shop.together(shop.verifier(task)), sampling.temperature,
        read, derived_seed(shop.recipe.seed, stage.name),
    )  # fmt: skip
