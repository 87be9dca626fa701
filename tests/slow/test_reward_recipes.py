"""The recipes of [R] from end to end: tiny random models, a few local rows, and a teacher on a small real server."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.alpaca import write_outputs
from tests.judges import faulty
from tests.slow.test_paper_recipes import save, tiny
from tests.teachers.server import Teacher, serving
from yonder.models.fresh import fresh_model
from yonder.models.loading import load_tokenizer
from yonder.pipeline.running import run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.rewards import JudgeSettings
from yonder.recipe.stages import DistillStage, EvaluateStage, WarmupStage

pytestmark = pytest.mark.slow

RECIPES = ("gsm8k-rewards", "mmlu-pro-rewards", "alpaca-rewards")
ROWS = 12


@pytest.fixture(autouse=True)
def one_thread_and_any_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    # a random judge hardly ever says Yes or No
    monkeypatch.setattr("yonder.evaluation.judge_check.admission.MASS_FAIL", 0.0)


def row(name: str, n: int) -> dict[str, Any]:
    """A question in the form of the recipe's source."""
    if name == "mmlu-pro-rewards":
        options = [str(2 * n + shift) for shift in (0, 1, 2, 3)]
        question = f"What is {n} and {n + 2} together ?"
        return {"id": f"row-{n}", "question": question, "options": options, "answer": "C", "category": "math"}
    if name == "alpaca-rewards":
        return {"id": f"row-{n}", "instruction": f"Tell me about {n} pens ."}
    question = f"Ann has {n} pens and buys {n + 2} more . How many pens does Ann have ?"
    return {"id": f"row-{n}", "question": question, "answer": str(2 * n + 2)}


def says(text: str, number: int) -> str:
    """The teacher: every fourth answer is wrong."""
    wrong = number % 4 == 3
    if "together" in text:
        return f"Both are added. The answer is ({'A' if wrong else 'C'})."
    n = int((re.findall(r"(\d+) pens", text) or ["0"])[-1])
    if "buys" in text:
        return f"She has {n} and {n + 2}. The answer is {n + 3 if wrong else 2 * n + 2}."
    return f"I know of {n} pens, number {number}."


def teach(server: Teacher) -> None:
    server.says = says
    server.models = ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B"]


def small(name: str, teacher: str, judge: str, folder: Path) -> Recipe:
    """The shipped recipe with tiny models, a few rows and a few steps; everything else is as shipped."""
    recipe = load_recipe(name)
    model = save(folder / "model", fresh_model(tiny("qwen3"), load_tokenizer("yonder:tokenizer")), chat=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row(name, n)) + "\n" for n in range(2, 2 + ROWS)))
    (folder / "test.jsonl").write_text("".join(json.dumps(row(name, n)) + "\n" for n in range(50, 53)))
    overrides = [
        f"policy.model={model}",
        "policy.max_prompt_tokens=120",
        "policy.max_completion_tokens=24",
        "policy.autocast=off",
        "task.stop=[e]",  # random models seldom end by themselves, and rewards leave out what is unfinished
        "sandbox.workers=1",
        "threads=1",
        f"output_dir={folder / 'run'}",
    ]
    for data, settings in recipe.data.items():
        kind = "test" if name == "gsm8k-rewards" and settings.split == "test" else "rows"
        overrides += [f"data.{data}.source={folder / kind}.jsonl", f"data.{data}.split=train"]
        overrides += [f"data.{data}.development=3"] if settings.development else []
    for benchmark, settings in recipe.benchmarks.items():
        overrides += [f"benchmarks.{benchmark}.votes=2"] if settings.votes else []
    for reward, settings in recipe.rewards.items():
        if isinstance(settings, JudgeSettings):
            overrides += served(f"rewards.{reward}", model, judge)
        if settings.kind == "teacher":
            overrides += [f"rewards.{reward}.model={model}"]
        if settings.kind in ("judge", "classifier"):
            overrides += [f"rewards.{reward}.allow_failing=true"]  # random weights know nothing
    return load_recipe(name, [*overrides, *small_stages(recipe, teacher, judge, model, folder)])


def served(judge: str, model: str, url: str) -> list[str]:
    """A judge on the other server, whose verdicts are a function of the prompt's tokens; `model` is its tokenizer."""
    return [f"{judge}.model={model}", f"{judge}.backend=sglang", f"{judge}.server.urls=[{url}]"]


def small_stages(recipe: Recipe, teacher: str, judge: str, model: str, folder: Path) -> list[str]:
    found: list[str] = []
    for stage in recipe.stages:
        if isinstance(stage, CollectStage):
            found += [f"{stage.name}.samples=4"]
            if stage.teacher is not None:  # one request at a time: every question's last answer is the wrong one
                found += [f"{stage.name}.teacher.server.{key}" for key in (f"urls=[{teacher}]", "concurrency=1")]
        if isinstance(stage, FitJudgeStage):
            found += [f"{stage.name}.held_out=0.3"]  # of few questions
        if isinstance(stage, WarmupStage) and stage.policy is not None:
            found += [f"{stage.name}.policy={model}"]
        if isinstance(stage, DistillStage):
            found += [f"{stage.name}.steps=2", f"{stage.name}.group_size={min(stage.group_size, 2)}"]
            found += [f"{stage.name}.prompts.{data}=2" for data in stage.prompts]
        if isinstance(stage, AlpacaEvalStage):
            write_outputs(folder / "baseline.json", 8)
            found += [f"{stage.name}.baseline={folder / 'baseline.json'}", f"{stage.name}.gamed=null"]
            found += served(f"{stage.name}.judge", model, judge)
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_reward_distillation_runs_through_every_stage(name: str, tmp_path: Path) -> None:
    shipped = load_recipe(name)
    with serving() as server, faulty.serving() as judge:
        teach(server)
        recipe = small(name, server.url, judge.url, tmp_path)
        summary = run(recipe)

    stages = summary["stages"]
    assert list(stages) == [stage.name for stage in shipped.stages]
    assert {stage["status"] for stage in stages.values()} == {"done"}
    assert summary["notes"] == list(shipped.notes)
    collects = [stage for stage in shipped.stages if isinstance(stage, CollectStage) and stage.teacher is not None]
    assert len(server.asked) == sum(stages[stage.name]["responses"] for stage in collects) >= 4 * 9
    labeled = stages["labels"]
    assert labeled["kept"] + sum(labeled["dropped"].values()) == labeled["questions"] == 9
    assert {"teacher", "student"} <= stages["reward_model"]["by_source"].keys()
    if name == "alpaca-rewards":
        assert stages["student"]["correct"] is None  # not measured, which is not 0
        assert "pair_accuracy" in stages["reward_model"]["held_out_figures"]
        assert {row["n"] for row in stages["table"]["win_rates"].values()} == {8}
    else:
        assert labeled["accuracy"]["votes"]["value"] == 1.0  # three of four teacher answers are right
    rows = {(row, column) for row, cells in summary["results"].items() for column in cells}
    tables = [stage for stage in shipped.stages if isinstance(stage, EvaluateStage)]
    assert rows == {(row, column) for of in tables for row in of.checkpoints for column in of.benchmarks}
    for stage in recipe.stages:
        if isinstance(stage, DistillStage):
            lines = (tmp_path / "run" / "stages" / stage.name / "metrics.jsonl").read_text().splitlines()
            (term,) = stage.terms
            assert json.loads(lines[-1])["step"] == 2
            # a teacher term scores tokens, not responses
            assert json.loads(lines[-1]).get(f"terms/{term.reward}@{term.data}/scored", 1) == 1
            if term.reward != "correct":  # random answers are all wrong
                assert "alarm" not in stages[stage.name], (stage.name, stages[stage.name])
    told = json.loads((tmp_path / "run" / "report.json").read_text())["stage_tables"]
    titles = ["What the teacher was asked", "Labels · labels", "Fitted · reward_model"]
    assert {*titles, *(["AlpacaEval · table"] if name == "alpaca-rewards" else [])} <= {one["title"] for one in told}


def test_the_demo_of_reward_distillation_with_few_questions(tmp_path: Path) -> None:
    """Its teacher learns as shipped; of the rest a little of everything, through the check and its attacks."""
    shipped = load_recipe("rewards-demo")
    counts = {"asked": 80, "voted": 80, "voted_few": 60, "everything_said": 60, "new": 20, "held_out": 100}
    overrides = [f"output_dir={tmp_path / 'run'}", "threads=1", "reward_model.epochs=1", "check.attack_questions=5"]
    overrides += [f"data.{name}.options.count={count}" for name, count in counts.items()]
    overrides += [f"{stage.name}.epochs=4" for stage in shipped.stages if isinstance(stage, WarmupStage)][1:]
    overrides += [f"{stage.name}.steps=2" for stage in shipped.stages if isinstance(stage, DistillStage)]
    overrides += [
        f"rewards.{name}.allow_unmeasured=true" for name in ("learned", "judge")
    ]  # a student that knows little
    recipe = load_recipe("rewards-demo", [*overrides, "check_direct.attack_questions=5"])
    summary = run(recipe)
    assert {stage["status"] for stage in summary["stages"].values()} == {"done"}
    labeled = summary["stages"]["labels"]
    assert labeled["accuracy"]["votes"]["low"] > 0.8  # 96 % of 1,000
    assert labeled["accuracy"]["others"]["value"] > 0.8
    assert {"teacher_answers", "student_answers"} <= summary["stages"]["reward_model"]["by_source"].keys()
    accuracy = {name: row["held_out"]["accuracy"] for name, row in summary["results"].items()}
    (table,) = [stage for stage in shipped.stages if isinstance(stage, EvaluateStage)]
    assert tuple(accuracy) == table.checkpoints
    assert accuracy["teacher"] > 0.9 > accuracy["sft"]
