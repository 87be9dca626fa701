"""Recipe sections for stages that gather responses and label them."""

from typing import Literal

from pydantic import Field

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
