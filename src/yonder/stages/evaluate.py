"""The stage `evaluate`: answer benchmarks."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from yonder.data.responses import (
    append_lines,
    read_lines,
)
from yonder.data.sources import read_records
from yonder.evaluation.benchmarks import BenchmarkResult, Samples, accuracy_text, evaluate
from yonder.evaluation.cached import ResultCache, cache_folder, key_of
from yonder.evaluation.contamination import Contamination
from yonder.models.policy import Policy
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
    contamination, kept = Contamination(context.recipe), ResultCache(cache_folder() if stage.cache else None)
    done = {(row["stage"], row["benchmark"]) for row in rows}
    for name in stage.checkpoints:
        for benchmark in stage.benchmarks:
            if (name, benchmark) not in done:
                context.stop.check(f"{stage.name}: saved after {len(rows)} of its evaluations")
                row = {"stage": name, "benchmark": benchmark} | evaluate_one(name, benchmark, context, kept)
                checked = contamination.check(name, context.recipe.benchmarks[benchmark].data)
                row |= {} if checked is None else {"contamination": checked}
                say(row, context)
                rows.append(row)
                append_lines(path, [row])
    results: dict[str, dict[str, Any]] = {}
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("stage", "benchmark")}
        results.setdefault(row["stage"], {})[row["benchmark"]] = figures
    return {"results": results}


def evaluate_one(checkpoint: str, benchmark: str, context: StageContext, kept: ResultCache) -> dict[str, Any]:
    """One cell of the table, from the cache where it was answered before."""
    shop, settings = context.shop, context.recipe.benchmarks[benchmark]
    policy = shop.policy(None if checkpoint == BASE else f"stage:{checkpoint}")
    prompts = shop.data(settings.data)
    key = None if kept.folder is None else key_of(policy, prompts, deciding(benchmark, context))
    found = kept.find(key)
    if found is None:
        found = answered(policy, prompts, f"{checkpoint} on {benchmark}", benchmark, context).to_json()
        kept.keep(key, found)
    else:
        found |= {"cached": True}
    return found | {"questions": questions_hash(prompts)} | canary(context.recipe.data[name_of(settings)])


def answered(
    policy: Policy, prompts: Sequence[Prompt], title: str, benchmark: str, context: StageContext
) -> BenchmarkResult:
    """Answer a benchmark, with a bar that shows how far it is."""
    shop, recipe = context.shop, context.recipe
    settings = recipe.benchmarks[benchmark]
    task = shop.task(settings.data)
    samples = Samples(
        settings.votes,
        settings.pass_at,
        tuple(derived_seed(recipe.seed, benchmark, f"seed {i}") for i in range(settings.seeds)),
        settings.vote_temperature,
        task.tolerance,
    )
    verifier = shop.verifier(task)
    context.progress.start(title, len(prompts) * samples.each)
    result = evaluate(
        prompts,
        shop.sampler(policy, task),
        UnanswerableToo(verifier) if settings.unanswerable else verifier,
        samples,
        groups=in_groups(settings, recipe.data),
        seed=derived_seed(recipe.seed, benchmark),
        progress=lambda done, total: context.progress.advance(done, {}),
    )
    context.progress.finish()
    return result


def deciding(benchmark: str, context: StageContext) -> dict[str, Any]:
    """What of a recipe decides a result, besides weights and questions. The seed, which the sampling seeds are made of
    together with the benchmark's name, only where anything is sampled."""
    recipe, settings = context.recipe, context.recipe.benchmarks[benchmark]
    sampled = settings.votes or settings.seeds
    return {
        "policy": recipe.policy.model_dump(mode="json", exclude={"model", "tokenizer"}),
        "task": context.shop.task(settings.data).model_dump(mode="json"),
        "sandbox": recipe.sandbox.model_dump(mode="json"),
        "benchmark": {key: value for key, value in settings.decisive().items() if key != "data"},
        "groups": in_groups(settings, recipe.data),
        "seed": [recipe.seed, benchmark, context.shop.by_prompt] if sampled else None,
    }


def say(row: Mapping[str, Any], context: StageContext) -> None:
    """One line for a cell of the table, and one for what a reader must know beside it."""
    reasons = f" ({next(iter(row['reasons']))})" if row["reasons"] else ""
    cell = f"{row['stage']} on {row['benchmark']}"
    cached = " (answered before, from the cache)" if row.get("cached") else ""
    context.progress.say(f"{cell}: {accuracy_text(row)}{reasons}{cached}")
    if row.get("contamination", {}).get("note"):
        context.progress.say(f"{cell}: {row['contamination']['note']}")


def in_groups(settings: BenchmarkSettings, data: Mapping[str, DataSettings]) -> bool:
    """Whether the categories of a benchmark are repetitions of one test."""
    source = data[name_of(settings)].source
    return settings.groups == "category" or (settings.groups == "auto" and source in GROUPED)


def questions_hash(prompts: Sequence[Prompt]) -> str:
    """Says whether two rows are about the same questions in the same order: first 16 digits of a SHA-256."""
    text = json.dumps([[prompt.question, prompt.answer] for prompt in prompts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canary(settings: DataSettings) -> dict[str, str]:
    """The string by which GSM-Symbolic asks to be kept out of training data, to stand wherever its results do."""
    if settings.source not in GROUPED:
        return {}
    texts = {str(record.extra.get("canary") or "") for record in read_records(settings, str(settings.source))}
    return {"canary": " ".join(sorted(texts))} if any(texts) else {}


def name_of(settings: BenchmarkSettings) -> str:
    """The data set behind a benchmark, without `.development`."""
    return settings.data.partition(".")[0]
