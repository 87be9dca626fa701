"""Recipe sections for what watches a training run, and for fitting a reward again while it goes on."""

from typing import Literal

from pydantic import Field

from yonder.recipe.base import Section
from yonder.recipe.models import LoraSettings


class MonitorSettings(Section):
    """Guards against reward hacking, measured while training. The defaults are ours; see docs/monitoring.md."""

    probe: tuple[str, ...] = ()
    """Rewards that also score the labeled rollouts of every iteration, beside the verifier, without training on it."""
    action: Literal["warn", "stop", "rollback", "refit"] = "warn"
    """When a rule trips: say so; stop with the last good checkpoint; go on from it with the weight of the fooled
    reward's terms moved to the verifiable term (without one: stop); or fit the reward again (see `refit`) and go on
    from it (where that cannot be: stop)."""
    max_rollbacks: int = Field(default=2, ge=0)
    """Stop at the trip after this many rollbacks, or refits at a trip."""
    window: int = Field(default=20, gt=0)
    """Iterations over which figures are taken; the first window is what later ones are compared with."""
    z: float = Field(default=3.0, ge=0)
    """How sure a rule must be, in standard errors; prompts are the units, so a group of 8 does not count as 8."""
    min_wrong: int = Field(default=30, gt=0)
    """Fewest verified-wrong rollouts in a window from which a rate is taken."""
    max_false_yes: float = Field(default=0.3, gt=0, le=1)
    """Trip (`false-yes`) when a probe likes a larger share of the verified-wrong rollouts, less `z` standard errors; a
    judge check warns at the same share."""
    max_false_yes_growth: float = Field(default=0.1, ge=0)
    """Trip (`false-yes-growth`) when that share has grown by more since the first window, and by `z` standard
    errors."""
    max_gap_growth: float = Field(default=0.05, ge=0)
    """Trip (`gap`) when mean(probe) - mean(verified) on labeled rollouts has grown by more since the first window, and
    by `z` standard errors."""
    min_length: float = Field(default=0.5, ge=0, le=1)
    """Trip (`short`) when completions that a judge scores shrink below this share of their first length; 0: never."""
    max_unscored: float = Field(default=0.5, gt=0, le=1)
    """Stop (`unscored`) when this share of a term's rollouts stays unscored for a whole window; a probe's: warn."""
    run_unlabeled: bool = False
    """Run the programs of every stream that a judge scores, for the rule `not-running`: a check that needs no labels
    and costs about a millisecond each. Where a verifiable term runs them anyway, the rule needs no such leave."""
    max_run_fall: float = Field(default=0.2, gt=0, le=1)
    """Trip (`not-running`) when the share of programs that run has fallen by more since the first window, and by `z`
    standard errors."""


class FollowSettings(Section):
    """Self-distillation: a judge that began as the policy follows it, so that the policy is judged by a moving copy of
    itself. Without this section such a judge stays the frozen copy that it began as."""

    reward: str
    """The judge: `backend: local`, its `model` what the stage's policy starts from."""
    every: int = Field(default=10, gt=0)
    """Iterations from one move to the next."""
    share: float = Field(default=1.0, gt=0, le=1)
    """How far it moves towards the policy's weights each time; 1: a copy."""


class RefitSettings(Section):
    """Fit a local judge or classifier again while the policy moves, on fresh verified rollouts: one that stays as it is
    gets hacked. The defaults are ours; see docs/monitoring.md."""

    reward: str
    """The reward to fit: a judge with `backend: local`, or a classifier, that this stage uses."""
    every: int = Field(default=0, ge=0)
    """Iterations from one refit to the next; 0: only at a trip (`monitor.action: refit`)."""
    data: str | None = None
    """Labeled data set whose prompts are answered for the refit alone; None: the rollouts of the verifiable term since
    the last refit (of at most `every` iterations, or `monitor.window` where that is more)."""
    prompts: int = Field(default=64, gt=0)
    """With `data`: prompts a refit, `group_size` completions each."""
    replay: tuple[str, ...] = ()
    """Collect stages whose responses make up half of each batch, so that what was learned from them stays."""
    steps: int = Field(default=16, gt=0)
    """Optimizer updates a refit."""
    batch_size: int = Field(default=24, ge=2)
    """Responses a step, as many right as wrong."""
    lr: float = Field(default=1e-5, gt=0)
    """Learning rate, constant; AdamW begins anew each time."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of questions that no refit trains on; the reward is measured on them before and after."""
    lora: LoraSettings | None = None
    """Train an adapter instead of all weights: for large judges, and the only way where `dtype` is not float32."""
