"""Recipe sections for stages that fit and check judges."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from yonder.recipe.attacks import WITHHELD, Negative
from yonder.recipe.models import LoraSettings, ModelReference
from yonder.recipe.optimizers import JudgeOptimizerSettings
from yonder.recipe.rewards import JudgePromptSettings
from yonder.recipe.stage_base import StageBase


class FitJudgeStage(StageBase, JudgePromptSettings):
    """Train a judge or a classifier on labeled responses and on negatives made from right ones."""

    kind: Literal["fit-judge"]
    model: ModelReference
    """What to start from."""
    tokenizer: str | None = None
    """Tokenizer, where the model has none of its own (a fresh one)."""
    output: Literal["yes-no", "classifier"] = "yes-no"
    """yes-no: a causal LM that answers Yes or No after the judge prompt; classifier: two labels, read at the last
    token."""
    loss: Literal["cross-entropy", "bradley-terry"] = "cross-entropy"
    """classifier only. bradley-terry: -log sigmoid(s_better - s_worse) of pairs of responses to one question, s the
    difference of the two logits [R]. It learns an order: its scores are no probabilities."""
    margin: float = Field(default=0.0, ge=0, le=1)
    """bradley-terry: least difference of two grades that makes a pair; ungraded ones are compared as right and
    wrong."""
    pairs: int = Field(default=8, gt=0)
    """bradley-terry: most pairs of a question in an epoch, drawn anew in each [ours]."""
    centre: float = Field(default=0.01, ge=0)
    """bradley-terry: weight of (s_better + s_worse)^2 in the loss (Eisenstein et al. 2023); it keeps scores near 0,
    where sigmoid(s), the reward, still tells one from another. 0: no."""
    responses: tuple[str, ...] = ()
    """Names of collect or label stages."""
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
        if self.loss == "bradley-terry" and self.output != "classifier":
            raise ValueError("`loss: bradley-terry` is for `output: classifier`; set that, or leave `loss` out")
        if self.loss == "bradley-terry" and self.balance != "none":
            raise ValueError("`balance` says nothing of pairs, which have a response of each side; leave it out")
        if self.loss != "bradley-terry" and self.margin:
            raise ValueError("`margin` is for `loss: bradley-terry`; set that, or leave it out")
        if self.loss != "bradley-terry" and self.centre != FitJudgeStage.model_fields["centre"].default:
            raise ValueError("`centre` is for `loss: bradley-terry`; set that, or leave it out")
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
