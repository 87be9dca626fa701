"""Recipe sections for stages that gather responses and label them."""

import math
from collections import Counter
from typing import Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.models import ModelReference
from yonder.recipe.rewards import PreferenceSettings
from yonder.recipe.stage_base import StageBase
from yonder.recipe.teachers import NO_NUMBER, TextTeacherSettings


class CollectStage(StageBase):
    """Gather answers of a model, and label them with the verifier where the data set is labeled."""

    kind: Literal["collect"]
    data: str
    """Data set whose questions are answered."""
    policy: ModelReference | None = None
    """Who answers, in this process; default: the recipe's policy.model."""
    teacher: TextTeacherSettings | None = None
    """Who answers, on a server; not beside `policy`."""
    samples: int = Field(default=8, gt=0)
    """Responses a question, spread evenly over the temperatures."""
    temperatures: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """Sampling temperatures, each once; 0, the likeliest answer, for a `teacher` alone."""

    @model_validator(mode="after")
    def _one_answers(self) -> "CollectStage":
        if self.policy is not None and self.teacher is not None:
            raise ValueError("`policy` and `teacher` cannot both answer; give one, or make two stages")
        return self

    @model_validator(mode="after")
    def _temperatures_that_sample(self) -> "CollectStage":
        for value, count in Counter(self.temperatures).items():
            if not 0 < value < math.inf and not (value == 0 and self.teacher is not None):
                mend = ", or name a `teacher`" if value == 0 else ""
                raise ValueError(f"`temperatures` has {value:g}; write numbers above 0{mend}")
            if count > 1:
                raise ValueError(f"`temperatures` has {value:g} twice; leave one out, or raise `samples`")
        if self.samples < (count := len(self.temperatures)):
            raise ValueError(f"`samples: {self.samples}` is less than one for each of {count} `temperatures`; raise it")
        return self

    @property
    def per_temperature(self) -> tuple[tuple[float, int], ...]:
        """Each temperature and how many responses to a question are sampled at it."""
        count = len(self.temperatures)
        return tuple((t, self.samples // count + (i < self.samples % count)) for i, t in enumerate(self.temperatures))

    def decisive(self) -> dict[str, Any]:
        """The settings that decide what is gathered, as plain values."""
        if self.teacher is None:
            return self.model_dump(mode="json", exclude={"teacher"})
        return self.model_dump(mode="json", exclude={"teacher": NO_NUMBER})


class LabelStage(StageBase):
    """Label responses without anyone's answers: by the vote of a teacher, or by a judge. Verified labels, where there
    are any, only measure it. See docs/reward-distillation.md."""

    kind: Literal["label"]
    teacher: tuple[str, ...] = Field(min_length=1)
    """Names of the collect stages whose answers vote."""
    responses: tuple[str, ...] = ()
    """Names of collect stages that are labeled besides, the student's; they never vote."""
    by: Literal["auto", "vote", "judge", "pairwise"] = "auto"
    """vote: the answer that the teacher gives most often; judge: the scores of `judge`; pairwise: how often `judge`
    prefers a response to others of its question; auto [R]: the vote, and a judge for `format: open`."""
    floor: float = Field(default=0.5, ge=0, le=1)
    """Least share of the vote, unreadable answers in the denominator; a question below it has no label [ours]."""
    judge: PreferenceSettings | str | None = None
    """Name of the reward that grades responses. `by: pairwise`: keys of a judge that prefers, as in an alpaca-eval
    stage."""
    pairs: int = Field(default=8, gt=0)
    """`by: pairwise`: most pairs of a question that are compared, each in both orders; drawn so that every response is
    in about as many [ours]."""
    target: float = Field(default=0.5, ge=0, le=1)
    """Least grade of a good response [ours]."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """For experiments: share of the labels that are made wrong. Of votes: questions get another answer instead; of
    a judge, pairwise too: responses get 1 - grade."""

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

    @model_validator(mode="after")
    def _who_prefers(self) -> "LabelStage":
        prefers = isinstance(self.judge, PreferenceSettings)
        if self.by == "pairwise" and not prefers:
            raise ValueError("`by: pairwise` needs a judge that prefers, by its keys; write `judge: {model: ...}`")
        if self.by != "pairwise" and prefers:
            raise ValueError("`judge` has keys of a judge that prefers; write `by: pairwise`, or the name of a reward")
        if self.by != "pairwise" and self.pairs != LabelStage.model_fields["pairs"].default:
            raise ValueError("`pairs` is for `by: pairwise`; set that, or leave it out")
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the labels, as plain values."""
        return self.model_dump(mode="json", exclude=set() if self.by == "pairwise" else {"pairs"})
