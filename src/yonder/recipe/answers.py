"""Recipe sections for stages that gather responses and label them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.models import ModelReference
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
    """Sampling temperatures."""

    @model_validator(mode="after")
    def _one_answers(self) -> "CollectStage":
        if self.policy is not None and self.teacher is not None:
            raise ValueError("`policy` and `teacher` cannot both answer; give one, or make two stages")
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
