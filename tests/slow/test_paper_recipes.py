"""The papers' recipes from end to end, with their architectures as tiny random models and a few local rows."""

import json
from pathlib import Path

import pytest
import torch
import zstandard
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from yonder.models.fresh import fresh_model
from yonder.models.loading import load_tokenizer
from yonder.pipeline.running import run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.answers import CollectStage
from yonder.recipe.models import FreshModel
from yonder.recipe.stages import DistillStage, EvaluateStage, WarmupStage

pytestmark = pytest.mark.slow

STUDENTS = {
    "gsm8k-galactica-125m": "opt",
    "gsm8k-galactica-125m-nl": "opt",
    "gsm8k-codegen-350m": "codegen",
    "gsm8k-galactica-6.7b": "opt",
    "svamp-galactica-125m": "opt",
    "svamp-codegen-350m": "codegen",
}
JUDGES = [  # recipe, family of the judge; [J] compares Qwen3, Llama and Gemma
    ("gsm8k-galactica-125m", "qwen3"),
    ("gsm8k-galactica-125m-nl", "qwen3"),
    ("gsm8k-codegen-350m", "qwen3"),
    ("gsm8k-galactica-6.7b", "llama"),
    ("svamp-galactica-125m", "gemma"),
    ("svamp-codegen-350m", "qwen3"),
]
SIGNS = {  # in the reason of a score when the reward did its work, rather than a gate before it
    "judge": "P(Yes) ",
    "judge_patched": "fewer than 4: not judged",  # random programs are short
    "rerank": "P(correct) ",
}
STOP = "{}.stop=[e]"  # random models seldom end by themselves, and unfinished completions are not judged
CHAT = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if not enable_thinking %}Answer:{% endif %}"


@pytest.fixture(autouse=True)
def one_thread_and_any_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    # a random judge hardly ever says Yes or No
    monkeypatch.setattr("yonder.evaluation.judge_check.admission.MASS_FAIL", 0.0)


def tiny(family: str) -> FreshModel:
    return FreshModel.model_validate({"family": family, "hidden_size": 16, "layers": 1, "heads": 4, "context": 1024})


def save(folder: Path, model: PreTrainedModel, chat: bool = False) -> str:
    tokenizer = load_tokenizer("yonder:tokenizer")
    if chat:
        tokenizer.chat_template = CHAT
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_classifier(folder: Path) -> str:
    config = fresh_model(tiny("opt"), load_tokenizer("yonder:tokenizer")).config
    config.num_labels = 2
    return save(folder, AutoModelForSequenceClassification.from_config(config))


def write_rows(path: Path, first: int, count: int) -> str:
    rows = [
        {
            "id": f"row-{n}",
            "question": f"Ann has {n} pens and buys {n + 2} more . How many pens does Ann have ?",
            "answer": str(2 * n + 2),
            "solution": f"def solution():\n    had = {n}\n    bought = {n + 2}\n    return had + bought",
            "text": f"Ann has {n} + {n + 2} = {2 * n + 2} pens.",
        }
        for n in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def small_data(recipe: Recipe, folder: Path) -> list[str]:
    """Every data set as a file; what a recipe reads from one source stays one source."""
    files: dict[tuple[str | None, str, str], str] = {}
    overrides = []
    for name, settings in recipe.data.items():
        key = (settings.source, settings.split, json.dumps(settings.options, sort_keys=True))
        if key not in files:
            files[key] = write_rows(folder / f"{len(files)}.jsonl", 10 * len(files), 6)
        overrides += [f"data.{name}.source={files[key]}", f"data.{name}.split=train", f"data.{name}.options={{}}"]
        if settings.development:
            overrides.append(f"data.{name}.development=2")
        if settings.task:
            overrides.append(STOP.format(f"data.{name}.task"))
        if settings.limit:
            overrides.append(f"data.{name}.limit=3")
    return overrides


def small_stages(recipe: Recipe) -> list[str]:
    overrides = []
    for stage in recipe.stages:
        if isinstance(stage, WarmupStage):
            overrides += [f"{stage.name}.epochs=1"]
        if isinstance(stage, CollectStage):
            overrides += [f"{stage.name}.samples=2"]
        if isinstance(stage, DistillStage):
            most = 2 if stage.group_size == 1 else 1
            few = ", ".join(f"{name}: {min(count, most)}" for name, count in stage.prompts.items())
            overrides += [f"{stage.name}.steps=2", f"{stage.name}.prompts={{{few}}}"]
            overrides += [f"{stage.name}.evaluate.every=2"] if stage.evaluate.data is not None else []
            overrides += [f"{stage.name}.group_size={min(stage.group_size, 2)}"]
    for name, settings in recipe.benchmarks.items():
        if settings.votes:
            overrides.append(f"benchmarks.{name}.votes=2")
    return overrides


def small(name: str, judge: str, folder: Path) -> Recipe:
    """The shipped recipe with tiny models, a few rows and a few steps; everything else is as shipped."""
    recipe = load_recipe(name)
    tokenizer = load_tokenizer("yonder:tokenizer")
    model = save(folder / "judge", fresh_model(tiny(judge), tokenizer), chat=judge == "qwen3")
    overrides = [
        f"policy.model={tiny(STUDENTS[name]).model_dump_json()}",
        "policy.tokenizer=yonder:tokenizer",
        "policy.max_prompt_tokens=100",
        "policy.max_total_tokens=120",
        "policy.autocast=off",
        "sandbox.workers=1",
        "threads=1",
        STOP.format("task"),
        f"output_dir={folder / 'run'}",
    ]
    for reward, settings in recipe.rewards.items():
        if settings.kind == "judge":
            overrides += [f"rewards.{reward}.model={model}", f"rewards.{reward}.mass_floor=0"]
        if settings.kind in ("judge", "classifier"):
            overrides += [f"rewards.{reward}.allow_failing=true"]  # random weights know nothing
        if settings.kind == "classifier":
            overrides += [f"rewards.{reward}.model={save_classifier(folder / 'reranker')}"]
    return load_recipe(name, [*overrides, *small_data(recipe, folder), *small_stages(recipe)])


def reasons(folder: Path, reward: str) -> list[str]:
    """Why a reward gave what it gave, over all logged rollouts."""
    found = []
    for path in folder.glob("stages/*/rollouts-*.jsonl.zst"):
        with path.open("rb") as file:
            text = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read().decode()
        rows = [json.loads(line) for line in text.splitlines()]
        found += [row["scores"][reward]["reason"] for row in rows if reward in row["scores"]]
    return found


@pytest.mark.parametrize(("name", "judge"), JUDGES)
def test_a_papers_recipe_runs_through_every_stage(name: str, judge: str, tmp_path: Path) -> None:
    shipped = load_recipe(name)
    recipe = small(name, judge, tmp_path)
    summary = run(recipe)

    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["stages"].keys() == {stage.name for stage in shipped.stages}
    assert {record["status"] for record in written["stages"].values()} == {"done"}
    assert written["notes"] == list(shipped.notes)
    rows = {(row, column) for row, cells in written["results"].items() for column in cells}
    assert rows == {
        (row, column)
        for stage in shipped.stages
        if isinstance(stage, EvaluateStage)
        for row in stage.checkpoints
        for column in stage.benchmarks
    }
    for cells in summary["results"].values():
        for name_of_benchmark, figures in cells.items():
            assert 0 <= figures["accuracy"] <= 1
            assert ("vote" in figures) == bool(recipe.benchmarks[name_of_benchmark].votes)
    for stage in recipe.stages:
        if isinstance(stage, DistillStage):
            lines = (tmp_path / "run" / "stages" / stage.name / "metrics.jsonl").read_text().splitlines()
            metrics = json.loads(lines[-1])
            assert metrics["step"] == 2
            for term in stage.terms:
                assert metrics[f"terms/{term.reward}@{term.data}/scored"] >= 1, (stage.name, metrics)
    asked = {term.reward for stage in recipe.stages if isinstance(stage, DistillStage) for term in stage.terms}
    for reward in asked - {"correct"}:
        assert any(SIGNS[reward] in reason for reason in reasons(tmp_path / "run", reward)), reward
    page = (tmp_path / "run" / "report.html").read_text()
    assert recipe.title.split(":")[0] in page
