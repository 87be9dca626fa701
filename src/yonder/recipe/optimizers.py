"""Recipe sections for AdamW and its schedule."""

from typing import Literal

from pydantic import Field

from yonder.recipe.base import Section

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
    micro_batch_tokens: int | None = Field(default=None, gt=0)
    """Token budget of one forward and backward, padding included; gradients accumulate over as many as a step needs.
    Left out: 2,048 on a CPU, 16,384 elsewhere."""
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
