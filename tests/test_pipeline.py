"""Whole stages of a small recipe in this process: which are due, what is refused, what the summary holds."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.data.attacks import ATTACKS
from yonder.data.responses import read_lines
from yonder.errors import TrainingError
from yonder.pipeline import run
from yonder.recipe import load_recipe
from yonder.recipe.attacks import WITHHELD
from yonder.training.progress import Silent


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Remember one line."""
        self.said.append(text)


def write(folder: Path, stages: list[dict[str, Any]], **sections: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree(folder) | {"stages": stages} | sections))
    return path


WARMUP = {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 60, "optimizer": {"lr": 0.03}}
EVALUATION = {"name": "end", "kind": "evaluate", "checkpoints": ["base", "warmup"], "benchmarks": ["train"]}


def test_the_starting_policy_is_a_row_and_unchanged_stages_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, [WARMUP, EVALUATION], benchmarks={"train": {"data": "train"}})
    short = ["policy.max_completion_tokens=40"]
    first = run(load_recipe(str(path), short))
    assert set(first["results"]) == {"base", "warmup"}
    assert all(row["train"]["n"] == 12 for row in first["results"].values())
    assert first["results"]["base"]["train"]["finished"] < first["results"]["warmup"]["train"]["finished"]
    assert {name: stage["status"] for name, stage in first["stages"].items()} == {"warmup": "done", "end": "done"}
    heard = Heard()
    again = run(load_recipe(str(path), short), progress=heard)
    assert heard.said == ["warmup: unchanged, skipped", "end: unchanged, skipped"]
    assert again["results"] == first["results"]
    changed = Heard()
    run(load_recipe(str(path), [*short, "warmup.epochs=2"]), progress=changed)
    assert any(line.startswith("warmup: configuration or inputs changed") for line in changed.said)
    assert any(line.startswith("end: configuration or inputs changed") for line in changed.said)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_a_floor_that_cannot_be_checked_stops_the_run(tmp_path: Path, floor: float) -> None:
    stages = [
        {"name": "answers", "kind": "collect", "data": "train", "samples": 2},
        {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"], "floor": floor},
    ]
    rewards = {"judge": {"kind": "judge", "model": "yonder:judge", "mass_floor": 0.0}}
    recipe = load_recipe(str(write(tmp_path, stages, rewards=rewards)))
    if not floor:
        assert run(recipe)["stages"]["check"]["verdict"] == "unmeasured"
        return
    with pytest.raises(TrainingError, match=r"stage check: the floor of 0.5 cannot be checked: only 0 questions"):
        run(recipe)


@pytest.mark.parametrize("stop", [True, False])
def test_a_judge_that_fails_stops_the_run_unless_it_is_only_measured(tmp_path: Path, stop: bool) -> None:
    stages = [
        WARMUP,
        {"name": "answers", "kind": "collect", "data": "train", "samples": 1},
        {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"], "stop": stop},
    ]
    stages[1]["policy"] = "stage:warmup"
    rewards = {"judge": {"kind": "judge", "model": "stage:warmup", "mass_floor": 0.0}}  # its mass is next to nothing
    recipe = load_recipe(str(write(tmp_path, stages, rewards=rewards)), ["policy.max_completion_tokens=40"])
    if not stop:
        assert run(recipe)["stages"]["check"]["verdict"] == "fail"
        return
    with pytest.raises(TrainingError, match=r"stage check: the judge gives Yes and No only 0.00"):
        run(recipe)


def test_a_judge_check_runs_the_attack_suite(tmp_path: Path) -> None:
    """On right responses that a finished collect stage left behind."""
    answers = {"name": "answers", "kind": "collect", "data": "train", "samples": 1}
    check = {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"], "attack_questions": 2}
    rewards = {"judge": {"kind": "judge", "model": "yonder:judge"}}
    path = write(tmp_path, [answers, check], rewards=rewards)
    run(load_recipe(str(path)), ["answers"])
    responses = tmp_path / "run/stages/answers/responses.jsonl"
    solved = [
        row | {"response": f"def solution():\n    return {row['answer']} + 0", "correct": True}
        for row in read_lines(responses)
    ]
    responses.write_text("".join(json.dumps(row) + "\n" for row in solved))
    heard = Heard()
    result = run(load_recipe(str(path)), progress=heard)["stages"]["check"]
    found = json.loads((tmp_path / "run/stages/check/judge_check.json").read_text())
    assert found["n"] == 12 and found["attacks"]["questions"] == 2
    assert [row["kind"] for row in found["attacks"]["kinds"]] == list(ATTACKS)
    assert [row["kind"] for row in found["attacks"]["kinds"] if row["withheld"]] == list(WITHHELD)
    assert all(row["n"] + row["unscored"] <= 2 for row in found["attacks"]["patterns"])
    patterns = {row["pattern"] for row in found["attacks"]["patterns"]}
    assert patterns.isdisjoint({"dropped-step", "flipped"})  # without 0, or less 0, it is right all the same
    assert result["attacks"] == found["attacks"]["overall"]["rate"]
    assert result["withheld_attacks"] == found["attacks"]["withheld"]["rate"]
    assert any("of withheld kinds" in line for line in heard.said)
    run(load_recipe(str(path), ["check.attack_questions=0"]))
    assert json.loads((tmp_path / "run/stages/check/judge_check.json").read_text())["attacks"] is None
