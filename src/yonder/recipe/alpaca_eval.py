"""The recipe section of AlpacaEval 2."""

from typing import Literal

from pydantic import Field

from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import PreferenceSettings
from yonder.recipe.stage_base import StageBase


class AlpacaEvalStage(StageBase):
    """AlpacaEval 2: answer a baseline's instructions with checkpoints, and let a judge prefer: win rate, and
    length-controlled win rate."""

    kind: Literal["alpaca-eval"]
    checkpoints: tuple[str, ...] = Field(min_length=1)
    """Stage names, or `base` for the recipe's policy.model as it is."""
    baseline: str
    """File with the baseline's outputs, in the benchmark's order: rows with instruction, output and generator
    (`model_outputs.json` of the alpaca_eval package), or JSONL of them."""
    gamed: str | None = None
    """File `df_gamed.csv` of the hub data set tatsu-lab/alpaca_eval, for the official length-controlled win rate, which
    needs all 805 instructions. Without it: length_controlled_minimal."""
    judge: PreferenceSettings
    """Who prefers."""
    task: TaskSettings = TaskSettings(format="open", chat=True)
    """How the policy reads an instruction."""
    temperature: float | None = Field(default=None, gt=0)
    """Of the policy's sampling; default: greedy."""
    limit: int | None = Field(default=None, gt=0)
    """Only the first instructions, to try a recipe."""
