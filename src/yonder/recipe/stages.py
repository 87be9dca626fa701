"""Recipe sections for the stages of a run, in the order in which a run needs them."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from yonder.recipe.algorithms import AlgorithmSettings
from yonder.recipe.attacks import WITHHELD, Negative
from yonder.recipe.base import Section
from yonder.recipe.models import LoraSettings, ModelReference, SamplingSettings
from yonder.recipe.rewards import JudgePromptSettings
from yonder.recipe.rollouts import RolloutSettings

BASE = "base"  # in evaluate stages: policy.model as it is
SAME_RESULTS = frozenset({"score_early"})  # of distill stages: decide when things are done, not what comes of them
Schedule = Literal["constant", "linear", "cosine"]


class OptimizerSettings(Section):
    """AdamW and its schedule."""

    lr: float = Field(default=3e-6, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "constant"
    """Shape after the warm-up: constant, or down to zero at the last step."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    micro_batch_tokens: int = Field(default=16384, gt=0)
    """Token budget of one forward and backward, padding included; gradients accumulate over as many as a step needs."""
    max_skipped: int = Field(default=3, gt=0)
    """A step whose loss or gradient is not finite is skipped; after this many in a row the run ends, with a dump.
    Ours."""


class SFTOptimizerSettings(OptimizerSettings):
    """[ReFT]: 10 % linear warm-up, then linear decay; lr 2e-5 [J]."""

    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Shape after the warm-up."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from zero."""


class JudgeOptimizerSettings(SFTOptimizerSettings):
    """[ReFT]'s reranker: lr 1e-6."""

    lr: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""


class StageBase(Section):
    """What every stage has."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name of its directory and of its row in tables; others refer to its checkpoint as `stage:NAME`."""


class EvaluationSchedule(Section):
    """Checkpoint choice on a development split, never on a test set."""

    data: str | None = None
    """Development data set (`NAME.development`); None: keep the last checkpoint."""
    every: int = Field(default=0, ge=0)
    """Evaluate after this many steps (warm-up: epochs); 0: never."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many evaluations without a new best; 0: never."""
    limit: int | None = Field(default=None, gt=0)
    """Evaluate on this many questions of the split."""


class WarmupStage(StageBase):
    """SFT on reference solutions; the loss covers the completion only."""

    kind: Literal["warmup"]
    data: str
    """Labeled data set with solutions."""
    policy: ModelReference | None = None
    """What to start from; default: the recipe's policy.model."""
    epochs: int = Field(default=10, gt=0)
    """Passes over the data. [J]: 10 for the warm-up, 40 for complete SFT."""
    batch_size: int = Field(default=24, gt=0)
    """Sequences a step."""
    prompt_loss: float = Field(default=0.0, ge=0)
    """Weight of the loss on prompt tokens; 0: completion only [J]. A student from scratch learns the language from
    it."""
    optimizer: SFTOptimizerSettings = SFTOptimizerSettings()
    evaluate: EvaluationSchedule = EvaluationSchedule()


class CollectStage(StageBase):
    """Sample responses and label them with the verifier."""

    kind: Literal["collect"]
    data: str
    """Labeled data set."""
    policy: ModelReference | None = None
    """Who answers; default: the recipe's policy.model."""
    samples: int = Field(default=8, gt=0)
    """Responses a question, spread evenly over the temperatures."""
    temperatures: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """Sampling temperatures."""


class FitJudgeStage(StageBase, JudgePromptSettings):
    """Train a judge or a classifier on labeled responses and on negatives made from right ones."""

    kind: Literal["fit-judge"]
    model: ModelReference
    """What to start from."""
    tokenizer: str | None = None
    """Tokenizer, where the model has none of its own (a fresh one)."""
    output: Literal["yes-no", "classifier"] = "yes-no"
    """yes-no: a causal LM that answers Yes or No after the judge prompt; classifier: 2-class cross-entropy at the
    last token."""
    responses: tuple[str, ...] = ()
    """Names of collect stages."""
    data: tuple[str, ...] = ()
    """Data sets whose reference solutions are taken as right responses."""
    negatives: dict[Negative, float] = {}
    """Negatives made from right responses: pattern or kind of the attack suite -> number made, as a share of the right
    responses; those still right are dropped. Withheld kinds are refused."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longest text, tokens; longer ones are left out. Default: as in the rewards, 1024 (yes-no) or 700 (classifier)."""
    solve_loss: float = Field(default=0.0, ge=0)
    """yes-no only: weight of the next-token loss on question and solution of right responses; a judge that can solve
    judges better."""
    balance: Literal["none", "undersample"] = "none"
    """undersample: each epoch has all responses of the rarer label and as many of the other, drawn anew; none: all."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of questions kept for measuring; never trained on. The checkpoint handed on is the likeliest one there."""
    epochs: int = Field(default=3, gt=0)
    """Passes over the responses. [ReFT]: 3."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many epochs without a better held-out likelihood; 0: never."""
    lora: LoraSettings | None = None
    """Train an adapter (and a classifier's score head) instead of all weights; the checkpoint is merged."""
    batch_size: int = Field(default=24, gt=0)
    """Sequences a step."""
    optimizer: JudgeOptimizerSettings = JudgeOptimizerSettings()

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> "FitJudgeStage":
        if not self.responses and not self.data:
            raise ValueError("there is nothing to learn from; name a collect stage in `responses`, or labeled `data`")
        return self

    @field_validator("negatives", mode="before")
    @classmethod
    def _nothing_withheld(cls, value: Any) -> Any:
        found = [kind for kind in WITHHELD if isinstance(value, dict) and kind in value]
        if found:
            raise ValueError(
                f"attacks of kind {' and '.join(f'`{kind}`' for kind in found)} only measure judges; fit on other kinds"
            )
        return value


class CheckJudgeStage(StageBase):
    """Measure a judge or classifier on labeled responses before it may train anything."""

    kind: Literal["check-judge"]
    reward: str
    """Name of the reward to check."""
    responses: tuple[str, ...]
    """Names of collect stages; the questions should be new to the judge."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Least pairwise accuracy; below it the run stops."""
    attack_questions: int = Field(default=100, ge=0)
    """Questions with a right response that every pattern of the attack suite is applied to; 0: no attacks."""
    likelihood_questions: int = Field(default=200, ge=0)
    """Questions whose drawn right and wrong response are also compared by their likelihood under the judge's own model,
    [J]'s baseline LL; 0: none. For judges in this process only."""
    stop: bool = True
    """Whether a judge that fails stops the run here; false: for a judge that is measured beside another. A reward's
    `allow_failing: true` has the same effect."""

    @field_validator("responses")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("there is nothing to check against; name a collect stage")
        return value


class TermSettings(Section):
    """One term of the loss: weight * L(reward, data)."""

    reward: str
    """Name of a reward (or of a teacher, whose distribution the policy is drawn to), or `module:function` of your
    own."""
    data: str
    """Name of the data set that is its prompt stream."""
    weight: float = Field(ge=0, le=1)
    """Lambda, mu or rho; the weights of a stage sum to one."""


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


class DistillStage(StageBase, AlgorithmSettings):
    """RL with weighted terms: L = sum over terms of weight * L(reward, data)."""

    kind: Literal["distill"]
    terms: tuple[TermSettings, ...] = Field(min_length=1)
    """The weighted losses; weights sum to one."""
    prompts: dict[str, int]
    """Data set -> prompts an iteration."""
    policy: ModelReference | None = None
    """What to start from; default: the recipe's policy.model."""
    reference: ModelReference | None = None
    """Frozen model for the KL; default: the starting policy."""
    steps: int = Field(gt=0)
    """Optimizer updates, as [J] counts; an iteration makes `epochs` of them."""
    epochs: int = Field(default=2, gt=0)
    """Passes over each rollout batch; [J]: 2."""
    one_step_off: bool = False
    """Write the next iteration's rollouts while this one's are scored and trained on, so that they are `epochs` steps
    old when their turn comes; needs `importance_cap`. Pays with an engine that runs beside the trainer."""
    score_early: tuple[Literal["served", "programs"], ...] = ("served",)
    """What is scored in the background while other completions are still written: by judges on servers; programs in the
    sandbox, which then share the processor with what writes. Same scores; an empty list: nothing. See
    docs/rollouts.md."""
    sampling: SamplingSettings = SamplingSettings()
    rollouts: RolloutSettings = RolloutSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluate: EvaluationSchedule = EvaluationSchedule()
    monitor: MonitorSettings = MonitorSettings()
    refit: RefitSettings | None = None
    """Fit a reward again while training; None: never."""
    save_every: int = Field(default=0, ge=0)
    """Write a resumable checkpoint after this many steps; 0: a tenth of the run."""
    keep: int = Field(default=2, gt=0)
    """Resumable checkpoints kept, besides the best."""
    log_rollouts: int = Field(default=16, ge=0)
    """Rollouts of each stream written to the log an iteration."""

    @model_validator(mode="after")
    def _consistent(self) -> "DistillStage":
        total = sum(term.weight for term in self.terms)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the weights of `terms` sum to {total:g}; make them sum to 1")
        streams = {term.data for term in self.terms}
        if streams != set(self.prompts):
            raise ValueError(
                f"`prompts` names {sorted(self.prompts)} but the terms use {sorted(streams)}; give one number for each"
            )
        if any(count < 1 for count in self.prompts.values()):
            raise ValueError("`prompts` needs at least 1 prompt for each data set")
        if self.monitor.action == "refit" and self.refit is None:
            raise ValueError("`monitor.action: refit` needs a section `refit` that names the reward; add one")
        if self.algorithm == "ppo" and self.ppo.head_warmup >= self.steps:
            raise ValueError(
                f"`ppo.head_warmup` ({self.ppo.head_warmup}) leaves none of `steps` ({self.steps}) for the policy; "
                "lower it"
            )
        if self.rollouts.engine == "vllm" and (self.sampling.top_p < 1 or self.sampling.top_k):
            raise ValueError(
                "`rollouts.engine: vllm` gives log-probs after `sampling.top_p` and `top_k`, with which the trainer's "
                "do not agree; leave both out"
            )
        if self.one_step_off and (self.importance_cap is None or self.dynamic.refills):
            what = "needs `importance_cap` (2)" if self.importance_cap is None else "excludes `dynamic.refills`"
            raise ValueError(f"`one_step_off` {what}, as its rollouts are those of an older policy; change one of them")
        if self.steps % self.epochs:
            raise ValueError(f"`steps` ({self.steps}) must be a multiple of `epochs` ({self.epochs})")
        return self


class EvaluateStage(StageBase):
    """Answer benchmarks with the checkpoints of other stages."""

    kind: Literal["evaluate"]
    checkpoints: tuple[str, ...] = Field(min_length=1)
    """Stage names, or `base` for the recipe's policy.model as it is; each becomes a row of the table."""
    benchmarks: tuple[str, ...] = Field(min_length=1)
    """Benchmark names; each becomes a column."""


StageSettings = Annotated[
    WarmupStage | CollectStage | FitJudgeStage | CheckJudgeStage | DistillStage | EvaluateStage,
    Field(discriminator="kind"),
]
