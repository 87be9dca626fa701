"""The root of a recipe: its fields."""

from pathlib import Path

from pydantic import Field

from yonder.recipe.base import Section
from yonder.recipe.data import BenchmarkSettings, DataSettings, TaskSettings
from yonder.recipe.models import ParallelSettings, PolicySettings
from yonder.recipe.rewards import (
    RewardSettings,
)
from yonder.recipe.stages import StageSettings
from yonder.recipe.trackers import TrackerSettings


class SandboxSettings(Section):
    """Limits for every program that a model writes."""

    timeout_s: float = Field(default=1.0, gt=0)
    """Longest run of one program, seconds."""
    memory_mb: int = Field(default=64, gt=0)
    """Memory of one program, MiB."""
    workers: int | None = Field(default=None, gt=0)
    """Processes that run programs; default: one per core."""
    fallback: bool = True
    """Run what Monty lacks in a kernel-confined CPython, where the kernel allows it."""


class Sections(Section):
    """The fields of a recipe, each of them checked alone."""

    title: str = ""
    """One line for tables and the page."""
    notes: tuple[str, ...] = ()
    """What a reader of the results must know (data that differ from a paper's, contamination); printed beside the
    results."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random in this run."""
    output_dir: Path = Path("runs/unnamed")
    """The run directory."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the tensor library; 0: its default. Part of what makes two runs bit-identical."""
    rounds: int = Field(default=1, ge=1)
    """Times that stages, data sets, rewards and benchmarks with `{round}` in their names are repeated; `{before}` is
    the round before. A recipe as written out has every round, and `rounds: 1`. See docs/reward-distillation.md."""
    policy: PolicySettings
    task: TaskSettings = TaskSettings()
    data: dict[str, DataSettings]
    benchmarks: dict[str, BenchmarkSettings] = {}
    rewards: dict[str, RewardSettings] = {}
    sandbox: SandboxSettings = SandboxSettings()
    parallel: ParallelSettings = ParallelSettings()
    trackers: tuple[TrackerSettings, ...] = ()
    """Who else gets metrics, evaluations, trips and the page; nothing here changes a number. See docs/trackers.md."""
    stages: tuple[StageSettings, ...] = Field(min_length=1)

    def stage(self, name: str) -> StageSettings:
        """The stage of that name; the recipe was checked, so it exists."""
        return next(stage for stage in self.stages if stage.name == name)
