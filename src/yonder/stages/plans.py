"""Recipe sections to the plain numbers and functions that the training loops take."""

from collections.abc import Collection, Mapping, Sequence

import torch

from yonder.models.padding import tokens_at_once
from yonder.models.policy import Policy
from yonder.models.sharing import shares_prompts
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.optimizers import OptimizerSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.stages import DistillStage, WarmupStage
from yonder.rewards.verifiable import VerifiableReward
from yonder.training.advantages import Estimator
from yonder.training.distributed import World
from yonder.training.divided import whole
from yonder.training.kl_control import KLControl
from yonder.training.plan import Plan
from yonder.training.rollback import Safety
from yonder.training.rollout import Term
from yonder.training.sharing import SharedReward, own
from yonder.training.signal import Refill
from yonder.training.stream_watches import RunStates
from yonder.training.supervised import SupervisedPlan
from yonder.training.update import LossSettings
from yonder.training.watches import MonitorRules


def supervised_plan(
    name: str, seed: int, stage: WarmupStage | FitJudgeStage, every: int, patience: int, device: torch.device
) -> SupervisedPlan:
    """The numbers of a supervised run. `device`: where it computes."""
    o: OptimizerSettings = stage.optimizer
    return SupervisedPlan(
        name, seed, stage.epochs, stage.batch_size, o.lr, o.schedule, o.warmup_fraction, o.weight_decay, o.grad_clip,
        tokens_at_once(o.micro_batch_tokens, device), every, patience, o.max_skipped,
    )  # fmt: skip


def distill_plan(stage: DistillStage, recipe: Recipe) -> Plan:
    """The numbers of a distillation."""
    o, s = stage.optimizer, stage.sampling
    return Plan(
        name=stage.name,
        seed=recipe.seed,
        steps=stage.steps,
        epochs=stage.epochs,
        group_size=stage.group_size,
        prompts=stage.prompts,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=s.top_k,
        lr=o.lr,
        schedule=o.schedule,
        warmup_fraction=o.warmup_fraction,
        weight_decay=o.weight_decay,
        save_every=stage.save_every or max(1, stage.steps // 10),
        evaluate_every=stage.evaluate.every,
        patience=stage.evaluate.patience,
        max_skipped=o.max_skipped,
        value_lr=stage.ppo.value_lr,
        one_step_off=stage.one_step_off,
        score_early=stage.score_early,
        refill=Refill(stage.dynamic.refills, stage.dynamic.tolerance),
    )


def estimator(stage: DistillStage, recipe: Recipe) -> Estimator:
    """How advantages are made."""
    overlong, limit = stage.overlong, recipe.policy.max_completion_tokens
    return Estimator(
        baseline=stage.baseline,
        kl_in_reward=stage.kl.beta if stage.kl.place == "reward" else 0.0,
        normalise=stage.normalise,
        gamma=stage.ppo.gamma,
        gae_lambda=stage.ppo.gae_lambda,
        truncated=stage.truncated,
        overlong=None if overlong is None else (limit, overlong.margin, overlong.weight),
    )


def loss_settings(stage: DistillStage, recipe: Recipe, device: torch.device, shared_width: int = 0) -> LossSettings:
    """The numbers of the loss. `device`: where it computes; `shared_width`: as that function finds it."""
    ppo = stage.algorithm == "ppo"
    return LossSettings(
        clip=stage.clip,
        kl_in_loss=stage.kl.beta if stage.kl.place == "loss" else 0.0,
        value_coef=stage.ppo.value_coef if ppo else 0.0,
        value_clip=stage.ppo.value_clip,
        temperature=stage.sampling.temperature,
        grad_clip=stage.optimizer.grad_clip,
        micro_batch_tokens=tokens_at_once(stage.optimizer.micro_batch_tokens, device),
        shared_width=shared_width,
        clip_high=stage.clip_high,
        dual_clip=stage.dual_clip,
        surrogate=stage.surrogate,
        average=stage.average,
        length=recipe.policy.max_completion_tokens,
        kl_estimator=stage.kl.estimator,
        importance_cap=stage.importance_cap,
        stop_gradient=stage.ppo.stop_gradient,
        head_warmup=stage.ppo.head_warmup if ppo else 0,
    )


def shared_width(policy: Policy, reference: object, terms: Sequence[Term], world: World) -> int:
    """The trunk's width where all models of a step read rollouts as one that begin alike; else 0. All processes
    ask together, and find the same."""
    policies = [policy, *([reference] if isinstance(reference, Policy) else [])]
    able = True
    for model in policies:
        with model.mixed_precision(), whole(model):
            able &= shares_prompts(model.trunk, model.device)
    with policy.mixed_precision():
        for teacher in (term.teacher for term in terms if term.teacher is not None):
            able &= shares_prompts(teacher.trunk, teacher.trunk.head.weight.device)
    return 0 if world.any(not able) else policy.trunk.width


def kl_control(stage: DistillStage) -> KLControl:
    """What steers the KL's coefficient."""
    return KLControl(stage.kl.target, stage.kl.gain)


def monitor_rules(stage: DistillStage) -> MonitorRules:
    """When the monitor trips."""
    m = stage.monitor
    return MonitorRules(
        m.window, m.min_wrong, m.z, m.max_false_yes, m.max_false_yes_growth, m.max_gap_growth, m.min_length,
        m.max_unscored, m.max_run_fall,
    )  # fmt: skip


def run_states(
    terms: Sequence[Term], programs: Mapping[str, VerifiableReward | SharedReward], unlabeled: bool
) -> dict[str, RunStates]:
    """Stream of programs -> what says whether they run: a verifiable term on that stream, or, if `unlabeled`, a run of
    all. `programs`: stream of programs -> what runs them."""
    found: dict[str, RunStates] = {}
    for term in terms:
        if term.stream in programs and isinstance(own(term.reward), VerifiableReward):
            found[term.stream] = _verified(term)
    return found | ({stream: _run(stream, reward) for stream, reward in programs.items()} if unlabeled else {})


def _verified(term: Term) -> RunStates:
    return lambda rollouts, scores: scores[term.reward_name, term.stream]


def _run(stream: str, reward: VerifiableReward | SharedReward) -> RunStates:
    return lambda rollouts, scores: reward.runs(rollouts[stream])


def safety(stage: DistillStage, verifier: Term | None, refits: Collection[str] = ()) -> Safety:
    """What follows a trip; a checkpoint has settled after one window. `refits`: rewards that a refit mends."""
    m = stage.monitor
    return Safety(m.action, m.window * stage.epochs, m.max_rollbacks, verifier, refits)


def completions_per_step(stage: DistillStage, rows: Sequence[Mapping[str, float]]) -> float:
    """Completions sampled for each optimizer update, over all streams; with `dynamic.refills` the mean of what was
    drawn, of which only as many as `prompts` says are trained on. `rows`: the stage's metrics."""
    planned = sum(stage.prompts.values())
    if not (stage.dynamic.refills and rows):
        return planned * stage.group_size / stage.epochs
    named = [(f"rollouts/{name}/groups_drawn", count) for name, count in stage.prompts.items()]
    drawn = sum(row.get(key, count) for row in rows for key, count in named)  # rows from before it had refills lack it
    return drawn / len(rows) * stage.group_size / stage.epochs
