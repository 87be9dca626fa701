"""The stage `evaluate`: answer benchmarks."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from yonder.data.responses import (
    append_lines,
    read_lines,
)
from yonder.evaluation.benchmarks import Samples, accuracy_text, evaluate
from yonder.recipe.data import BenchmarkSettings, DataSettings
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import EvaluateStage
from yonder.rewards.unanswerable import UnanswerableToo
from yonder.schema import Prompt
from yonder.stages.context import Result, StageContext
from yonder.training.rollout import derived_seed

GROUPED = ("gsm-symbolic", "hub:apple/GSM-Symbolic")  # sources whose categories are instances of the same templates


def run_evaluate(stage: EvaluateStage, context: StageContext) -> Result:
    """Answer every benchmark with every checkpoint; finished pairs are kept when the stage is interrupted."""
    path = context.folder / "evaluations.jsonl"
    rows = read_lines(path)
    done = {(row["stage"], row["benchmark"]) for row in rows}
    for name in stage.checkpoints:
        for benchmark in stage.benchmarks:
            if (name, benchmark) not in done:
                context.stop.check(f"{stage.name}: saved after {len(rows)} of its evaluations")
                row = {"stage": name, "benchmark": benchmark} | evaluate_one(name, benchmark, context)
                rows.append(row)
                append_lines(path, [row])
    results: dict[str, dict[str, Any]] = {}
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("stage", "benchmark")}
        results.setdefault(row["stage"], {})[row["benchmark"]] = figures
    return {"results": results}


def evaluate_one(checkpoint: str, benchmark: str, context: StageContext) -> dict[str, Any]:
    """One cell of the table."""
    shop, settings = context.shop, context.recipe.benchmarks[benchmark]
    policy = shop.policy(None if checkpoint == BASE else f"stage:{checkpoint}")
    task = shop.task(settings.data)
    prompts = shop.data(settings.data)
    seed = derived_seed(context.recipe.seed, benchmark)
    samples = Samples(
        settings.votes,
        settings.pass_at,
        tuple(derived_seed(context.recipe.seed, benchmark, f"seed {i}") for i in range(settings.seeds)),
        settings.vote_temperature,
        task.tolerance,
    )
    verifier = shop.verifier(task)
    context.progress.start(f"{checkpoint} on {benchmark}", len(prompts) * samples.each)
    result = evaluate(
        prompts,
        shop.sampler(policy, task),
        UnanswerableToo(verifier) if settings.unanswerable else verifier,
        samples,
        groups=in_groups(settings, context.recipe.data),
        seed=seed,
        progress=lambda done, total: context.progress.advance(done, {}),
    )
    context.progress.finish()
    found = result.to_json() | {"questions": questions_hash(prompts)}
    reasons = f" ({next(iter(result.reasons))})" if result.reasons else ""
    context.progress.say(f"{checkpoint} on {benchmark}: {accuracy_text(found)}{reasons}")
    return found


def in_groups(settings: BenchmarkSettings, data: Mapping[str, DataSettings]) -> bool:
    """Whether the categories of a benchmark are repetitions of one test."""
    source = data[settings.data.partition(".")[0]].source
    return settings.groups == "category" or (settings.groups == "auto" and source in GROUPED)


def questions_hash(prompts: Sequence[Prompt]) -> str:
    """Says whether two rows are about the same questions in the same order: first 16 digits of a SHA-256."""
    text = json.dumps([[prompt.question, prompt.answer] for prompt in prompts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
