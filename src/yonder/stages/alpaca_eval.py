"""The stage `alpaca-eval`: answer instructions, and let a judge compare the answers with a baseline's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yonder.assembly.judges import load_preference
from yonder.data.responses import append_lines, read_lines
from yonder.evaluation.alpaca_eval import (
    Answered,
    annotation_rows,
    figures,
    model_outputs,
    prompts_of,
    read_inputs,
    sentence,
)
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.stage_base import BASE
from yonder.rewards.preference import PreferenceJudge
from yonder.stages.context import Result, StageContext
from yonder.storage import write_whole
from yonder.training.rollout import derived_seed

CHUNK = 64  # instructions between two writes


def run_alpaca_eval(stage: AlpacaEvalStage, context: StageContext) -> Result:
    """Outputs and annotations of every checkpoint in a folder of its own; what is answered and judged is kept when the
    stage is interrupted."""
    baseline, gamed = read_inputs(stage)
    for name in stage.checkpoints:
        (context.folder / name).mkdir(parents=True, exist_ok=True)
        _answer(name, stage, baseline, context)
    model = context.shop.resolve(stage.judge.model)
    settings = stage.judge.model_copy(update={"model": model})
    judge, _ = load_preference(settings, context.recipe.output_dir / "judge_cache.sqlite")
    results: dict[str, Any] = {}
    for name in stage.checkpoints:
        rows = _judged(name, stage, baseline, judge, context)
        results[name] = figures(rows, gamed)
        context.progress.say(f"{stage.name}: {name}: {sentence(results[name])}")
    return {"win_rates": results}


def _answer(name: str, stage: AlpacaEvalStage, baseline: Sequence[Answered], context: StageContext) -> None:
    """Write `model_outputs.json` of one checkpoint."""
    folder = context.folder / name
    done = _kept(folder / "outputs.jsonl", len(baseline))
    if len(done) < len(baseline):
        shop = context.shop
        sampler = shop.sampler(shop.policy(None if name == BASE else f"stage:{name}"), stage.task)
        prompts = prompts_of(baseline, stage.task.chat)
        context.progress.start(f"{name} answers", len(prompts), len(done))
        for start in range(len(done), len(prompts), CHUNK):
            context.stop.check(f"{stage.name}: saved after {len(done)} answers of {name}")
            part = slice(start, start + CHUNK)
            seed = derived_seed(context.recipe.seed, f"{stage.name} {start}")
            rollouts = sampler.sample(prompts[part], 1, stage.temperature, seed)
            fresh = model_outputs(rollouts, baseline[part], name)
            _add(folder / "outputs.jsonl", fresh, done)
            context.progress.advance(len(done), {})
        context.progress.finish()
    _write_list(folder / "model_outputs.json", done)


def _judged(
    name: str, stage: AlpacaEvalStage, baseline: Sequence[Answered], judge: PreferenceJudge, context: StageContext
) -> list[dict[str, Any]]:
    """Write `annotations.json` of one checkpoint."""
    folder = context.folder / name
    ours = read_lines(folder / "outputs.jsonl")
    rows = _kept(folder / "annotations.jsonl", len(baseline))
    context.progress.start(f"{name} against {baseline[0].generator}", len(baseline), len(rows))
    for start in range(len(rows), len(baseline), CHUNK):
        context.stop.check(f"{stage.name}: saved after {len(rows)} comparisons of {name}")
        theirs, mine = baseline[start : start + CHUNK], ours[start : start + CHUNK]
        cases = [(of.instruction, str(our["output"]), of.output) for of, our in zip(theirs, mine, strict=True)]
        fresh = annotation_rows(theirs, mine, judge.prefer(cases), str(stage.judge.model))
        _add(folder / "annotations.jsonl", fresh, rows)
        context.progress.advance(len(rows), {})
    context.progress.finish()
    _write_list(folder / "annotations.json", rows)
    return rows


def _add(path: Path, fresh: list[dict[str, Any]], done: list[dict[str, Any]]) -> None:
    append_lines(path, fresh)
    done += fresh


def _kept(path: Path, total: int) -> list[dict[str, Any]]:
    """The rows that are there, without those of a chunk that an interruption left incomplete."""
    rows = read_lines(path)
    if len(rows) == total or len(rows) % CHUNK == 0:
        return rows
    rows = rows[: len(rows) // CHUNK * CHUNK]
    path.unlink()
    append_lines(path, rows)
    return rows


def _write_list(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(path, json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
