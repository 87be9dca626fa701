"""Recipe sections for the stages that train and evaluate the policy, and the list of all kinds of stage."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.algorithms import AlgorithmSettings
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage, LabelStage
from yonder.recipe.base import Section
from yonder.recipe.judge_stages import CheckJudgeStage, FitJudgeStage
from yonder.recipe.models import ModelReference, SamplingSettings
from yonder.recipe.monitoring import FollowSettings, MonitorSettings, RefitSettings
from yonder.recipe.optimizers import OptimizerSettings, SFTOptimizerSettings
from yonder.recipe.rollouts import MEMORY, RolloutSettings
from yonder.recipe.stage_base import EvaluationSchedule, StageBase


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


class TermSettings(Section):
    """One term of the loss: weight * L(reward, data)."""

    reward: str
    """Name of a reward (or of a teacher, whose distribution the policy is drawn to), or `module:function` of your
    own."""
    data: str
    """Name of the data set that is its prompt stream."""
    weight: float = Field(ge=0, le=1)
    """Lambda, mu or rho; the weights of a stage sum to one."""


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
    score_early: tuple[Literal["served", "programs", "local"], ...] = ("served",)
    """What is scored in the background while other completions are still written: by judges on servers; programs in the
    sandbox, which then share the processor with what writes; by judges and classifiers in this process, a prompt's
    completions at once, best on another device. Same scores (of `local` up to rounding); an empty list: nothing. See
    docs/rollouts.md."""
    sampling: SamplingSettings = SamplingSettings()
    rollouts: RolloutSettings = RolloutSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluate: EvaluationSchedule = EvaluationSchedule()
    monitor: MonitorSettings = MonitorSettings()
    refit: RefitSettings | None = None
    """Fit a reward again while training; None: never."""
    follow: FollowSettings | None = None
    """Let a judge that began as the policy follow it; None: never."""
    save_every: int = Field(default=0, ge=0)
    """Write a resumable checkpoint after this many steps; 0: a tenth of the run."""
    keep: int = Field(default=2, gt=0)
    """Resumable checkpoints kept, besides the best."""
    log_rollouts: int = Field(default=16, ge=0)
    """Rollouts of each stream written to the log an iteration."""

    def decisive(self) -> dict[str, Any]:
        """Without when things are done, unless it decides what is batched, and what memory they take."""
        found = self.model_dump(mode="json", exclude={"score_early": True, "rollouts": {"colocate": MEMORY}})
        if self.rollouts.colocate is None:
            del found["rollouts"]["colocate"]
        return found | ({"score_early": ["local"]} if "local" in self.score_early else {})

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
        if self.reference is not None and not self.kl.beta:
            raise ValueError("`reference` does nothing with `kl.beta: 0`; give that a value, or leave `reference` out")
        if self.follow is not None and self.refit is not None:
            raise ValueError("`follow` and `refit` both move a judge's weights; leave one out")
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
        if "local" in self.score_early and (self.refit is not None or self.follow is not None):
            raise ValueError("`score_early: local` reads judges while `refit` or `follow` moves them; leave it out")
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
    cache: bool = True
    """Take results from the user's cache folder where the same weights answered the same questions before, and keep new
    ones there: a warm-up that several runs share is answered once. The folder: docs/benchmarks.md."""

    def decisive(self) -> dict[str, Any]:
        """Without where results come from."""
        return self.model_dump(mode="json", exclude={"cache"})


StageSettings = Annotated[
    WarmupStage
    | CollectStage
    | LabelStage
    | FitJudgeStage
    | CheckJudgeStage
    | DistillStage
    | EvaluateStage
    | AlpacaEvalStage,
    Field(discriminator="kind"),
]
