"""The numbers of a distill run, without its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from yonder.training.signal import Refill


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a run; see `recipe.stages.DistillStage` for the meaning of each."""

    name: str
    seed: int
    steps: int
    epochs: int
    group_size: int
    prompts: Mapping[str, int]
    temperature: float
    top_p: float
    top_k: int
    lr: float
    schedule: str
    warmup_fraction: float
    weight_decay: float
    save_every: int
    evaluate_every: int
    patience: int
    max_skipped: int
    value_lr: float | None = None  # None: as `lr`
    refill: Refill = field(default_factory=Refill)
    one_step_off: bool = False
    score_early: tuple[str, ...] = ()
