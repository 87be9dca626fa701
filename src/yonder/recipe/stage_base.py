"""What recipe sections of several stages share."""

from typing import Any

from pydantic import Field, model_validator

from yonder.recipe.base import Section

BASE = "base"  # in evaluate stages: policy.model as it is


class StageBase(Section):
    """What every stage has."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name of its directory and of its row in tables; others refer to its checkpoint as `stage:NAME`."""

    def decisive(self) -> dict[str, Any]:
        """The settings that decide what comes of the stage, as plain values; a stage is done as long as they stay."""
        return self.model_dump(mode="json")


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

    @model_validator(mode="after")
    def _both_or_none(self) -> "EvaluationSchedule":
        given = self.model_fields_set
        idle = [key for key in ("every", "patience", "limit") if getattr(self, key) and "data" not in given]
        if idle:
            raise ValueError(f"`{idle[0]}` does nothing without `data`; name a development split, or leave it out")
        if self.data is not None and "every" not in given:
            raise ValueError("`data` does nothing without `every`; say after how many steps, or leave it out")
        return self
