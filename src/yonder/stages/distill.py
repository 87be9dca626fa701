"""The stage `distill`: RL with weighted terms."""

import sys
from collections.abc import Sequence

from yonder.data.responses import read_lines
from yonder.engines.build import rollout_sampler
from yonder.models.loading import positions
from yonder.models.policy import Policy
from yonder.recipe.stages import DistillStage
from yonder.stages.consent import admit_judges
from yonder.stages.context import Result, StageContext, announce, development_accuracy
from yonder.stages.handing_on import checkpoint_of, handed_on
from yonder.stages.plans import (
    completions_per_step,
    distill_plan,
    estimator,
    kl_control,
    loss_settings,
    monitor_rules,
    run_states,
    safety,
    shared_width,
)
from yonder.stages.refitting import build_follow, build_refit
from yonder.training.checkpoint import CheckpointStore
from yonder.training.distill import Distiller
from yonder.training.learner import Learner
from yonder.training.monitor import Monitor
from yonder.training.records import Recorder
from yonder.training.rollout import Term
from yonder.training.sharing import shared_verifier


def _say_context(stage: DistillStage, policy: Policy, context: StageContext) -> None:
    """Say where the recipe allows more tokens than the policy has positions: completions end there."""
    settings, has = context.recipe.policy, positions(policy.model)
    most = min(settings.max_prompt_tokens + settings.max_completion_tokens, settings.max_total_tokens or sys.maxsize)
    if has is not None and has < most:
        context.progress.say(
            f"{stage.name}: the policy has {has} positions, and policy.max_prompt_tokens and max_completion_tokens "
            f"allow {most} tokens; completions of long prompts are cut at the last position"
        )


def _shared_width(
    stage: DistillStage, policy: Policy, reference: object, terms: Sequence[Term], context: StageContext
) -> int:
    """As `plans.shared_width`; says so where the prompts of groups cannot be shared."""
    width = shared_width(policy, reference, terms, context.shop.world)
    if not width and stage.group_size > 1:
        context.progress.say(
            f"{stage.name}: the update reads each completion with a prompt of its own, since a model's attention takes "
            "no mask of ours (docs/performance.md)"
        )
    return width


def run_distill(stage: DistillStage, context: StageContext) -> Result:
    """RL with weighted terms."""
    recipe, shop = context.recipe, context.shop
    shop.groups = stage.group_size if "local" in stage.score_early else 0
    for sentence in admit_judges(recipe, stage, context.folders):
        context.progress.say(f"{stage.name}: {sentence}")
    task = shop.task(stage.terms[0].data)  # of the prompts' form; each term's reward reads its own data set's task
    outputs = (len(stage.terms) if stage.ppo.value_per_term else 1) if stage.algorithm == "ppo" else 0
    policy = shop.policy(stage.policy, outputs, train=True)
    terms = [shop.term(term, policy) for term in stage.terms]
    verified = [
        t for t in terms if recipe.rewards.get(t.reward_name) and recipe.rewards[t.reward_name].kind == "verifiable"
    ]
    labeled = verified[0] if verified else None
    scored = [term for term in terms if term.teacher is None]
    probes = [shop.probe(name, labeled.stream) for name in stage.monitor.probe] if labeled else []
    programs = {t.data: shop.task(t.data) for t in stage.terms if shop.task(t.data).format == "program"}
    verifiers = {name: shared_verifier(shop.world, shop.verifier(task)) for name, task in programs.items()}
    runs = run_states(scored, verifiers, stage.monitor.run_unlabeled)
    announce(context)
    _say_context(stage, policy, context)
    refit = build_refit(stage, shop, policy, labeled, context.folders) or build_follow(stage, shop, policy)
    store = CheckpointStore(context.folder / "checkpoints", stage.keep, recipe.policy.lora is not None, shop.world)
    plan, reference = distill_plan(stage, recipe), shop.reference(stage, policy)
    recorder = Recorder(context.folder, stage.log_rollouts, silent=not shop.world.first)
    learner = Learner(
        plan=plan,
        policy=policy,
        reference=reference,
        value_outputs=list(range(len(terms))) if stage.ppo.value_per_term else [0] * len(terms),
        estimator=estimator(stage, recipe),
        loss=loss_settings(stage, recipe, policy.device, _shared_width(stage, policy, reference, terms, context)),
        recorder=recorder,
        progress=context.progress,
        kl=kl_control(stage),
        sampler_apart=stage.rollouts.engine != "in-process",
        world=shop.world,
    )
    job = Distiller(
        plan=plan,
        learner=learner,
        sampler=rollout_sampler(stage, shop.sampler(policy, task), context.folder),
        streams={name: shop.stream(name) for name in stage.prompts},
        terms=terms,
        probes=probes,
        monitor=Monitor(monitor_rules(stage), scored, probes, labeled.reward_name if labeled else None, runs),
        safety=safety(stage, labeled, () if refit is None else refit.rewards),
        recorder=recorder,
        store=store,
        progress=context.progress,
        evaluate=development_accuracy(stage.evaluate, policy, context),
        refit=refit,
        stop=context.stop,
        changed=context.changed,
    )
    result = job.run()
    if refit is not None:
        result["judge"] = checkpoint_of(store, result, refit.folder)
    result["checkpoint"] = handed_on(recipe, stage.name, store, result, policy)
    return result | {"completions_per_step": completions_per_step(stage, read_lines(context.folder / "metrics.jsonl"))}
