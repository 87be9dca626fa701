"""Runs one stage, by its kind."""

from collections.abc import Callable
from typing import Any

from yonder.recipe.stages import StageSettings
from yonder.stages.alpaca_eval import run_alpaca_eval
from yonder.stages.check_judge import run_check
from yonder.stages.collect import run_collect
from yonder.stages.context import Result, StageContext
from yonder.stages.distill import run_distill
from yonder.stages.evaluate import run_evaluate
from yonder.stages.fit_judge import run_fit
from yonder.stages.label import run_label
from yonder.stages.warmup import run_warmup


def run_stage(stage: StageSettings, context: StageContext) -> Result:
    """Run one stage in its folder; an unfinished one continues. The result goes into `stage.json` and the summary."""
    runners: dict[str, Callable[[Any, StageContext], Result]] = {
        "warmup": run_warmup,
        "collect": run_collect,
        "label": run_label,
        "fit-judge": run_fit,
        "check-judge": run_check,
        "distill": run_distill,
        "evaluate": run_evaluate,
        "alpaca-eval": run_alpaca_eval,
    }
    return runners[stage.kind](stage, context)
