"""Recipe sections for stages that gather responses and label them."""

from typing import Literal

from pydantic import Field, model_validator

from yonder.recipe.models import ModelReference
from yonder.recipe.stage_base import StageBase


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


class LabelStage(StageBase):
    """Label responses without anyone's answers: by the vote of a teacher, or by a judge. Verified labels, where there
    are any, only measure it. See docs/reward-distillation.md."""

    kind: Literal["label"]
    teacher: tuple[str, ...] = Field(min_length=1)
    """Names of the collect stages whose answers vote."""
    responses: tuple[str, ...] = ()
    """Names of collect stages that are labeled besides, the student's; they never vote."""
    by: Literal["auto", "vote", "judge"] = "auto"
    """vote: the answer that the teacher gives most often; judge: the scores of `judge`; auto [R]: the vote, and a judge
    for `format: open`."""
    floor: float = Field(default=0.5, ge=0, le=1)
    """Least share of the vote, unreadable answers in the denominator; a question below it has no label [ours]."""
    judge: str | None = None
    """Name of the reward that grades responses."""
    target: float = Field(default=0.5, ge=0, le=1)
    """Least grade of a good response [ours]."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """For experiments: share of the labels that are made wrong. Of votes: questions get another answer instead; of
    a judge: responses get 1 - grade."""

    @model_validator(mode="after")
    def _votes_are_the_teachers(self) -> "LabelStage":
        twice = sorted(set(self.teacher) & set(self.responses))
        if twice:
            raise ValueError(f"`{twice[0]}` stands in `teacher` and in `responses`; name it once")
        if self.by == "judge" and self.judge is None:
            raise ValueError("`by: judge` needs the name of a reward in `judge`; add it")
        if self.by == "vote" and self.judge is not None:
            raise ValueError("`judge` says nothing with `by: vote`; leave it out, or write `by: judge`")
        return self
