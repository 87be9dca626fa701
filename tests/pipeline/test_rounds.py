"""`rounds` in a recipe: what is repeated, what its numbers become, and which mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.errors import RecipeError
from yonder.pipeline.running import run
from yonder.recipe import dump_recipe, load_recipe, parse_recipe
from yonder.recipe.rounds import expanded


def looped(folder: Path, **changes: Any) -> dict[str, Any]:
    """Warm-up, two rounds of collecting, labeling and training, and a stage that reads all rounds."""
    collect = {"name": "answers-{round}", "kind": "collect", "data": "train", "samples": 2}
    train = {
        "name": "student-{round}", "kind": "warmup", "data": "train", "policy": "stage:student-{before}", "epochs": 1
    }  # fmt: skip
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["base", "student-{round}"], "benchmarks": ["train"]}
    stages = [
        {"name": "student-0", "kind": "warmup", "data": "train", "epochs": 1},
        collect | {"policy": "stage:student-{before}"},
        {"name": "labels-{round}", "kind": "label", "teacher": ["answers-{round}"], "floor": 0.0},
        train,
        end,
    ]
    return tree(folder) | {"rounds": 2, "stages": stages, "benchmarks": {"train": {"data": "train"}}} | changes


def write(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_block_is_repeated_in_order_with_its_numbers(tmp_path: Path) -> None:
    rewards = {"classifier-{round}": {"kind": "classifier", "model": "stage:student-{round}"}}
    recipe = load_recipe(write(tmp_path, looped(tmp_path, rewards=rewards)))
    names = ["student-0", "answers-1", "labels-1", "student-1", "answers-2", "labels-2", "student-2", "end"]
    assert [stage.name for stage in recipe.stages] == names
    assert [getattr(recipe.stage(f"student-{i}"), "policy", "") for i in (1, 2)] == [
        "stage:student-0",
        "stage:student-1",
    ]
    assert getattr(recipe.stage("labels-2"), "teacher", ()) == ("answers-2",)
    assert getattr(recipe.stage("end"), "checkpoints", ()) == ("base", "student-1", "student-2")
    assert list(recipe.rewards) == ["classifier-1", "classifier-2"]
    assert recipe.rounds == 1
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "again") == recipe


def test_two_blocks_are_repeated_one_after_the_other(tmp_path: Path) -> None:
    stage = {"kind": "warmup", "data": "train"}
    stages = [{"name": name} | stage for name in ("a-{round}", "b-{round}", "between", "c-{round}")]
    found = expanded(looped(tmp_path, stages=stages), "here")["stages"]
    assert [one["name"] for one in found] == ["a-1", "b-1", "a-2", "b-2", "between", "c-1", "c-2"]


def test_texts_with_other_braces_stay() -> None:
    data = {"more-{round}": {"source": "{before}-{round}-{x}", "limit": 3}}
    found = expanded({"rounds": 2, "data": data, "notes": ["{x}", "{round}"]}, "here")
    assert found["data"] == {"more-1": {"source": "0-1-{x}", "limit": 3}, "more-2": {"source": "1-2-{x}", "limit": 3}}
    assert found["notes"] == ["{x}", "1", "2"]


def test_overrides_reach_all_rounds_or_one(tmp_path: Path) -> None:
    path = write(tmp_path, looped(tmp_path))
    recipe = load_recipe(path, ["student-2.epochs=7", "student-{round}.epochs=5", "rounds=3", "student-0.epochs=9"])
    assert [getattr(recipe.stage(f"student-{i}"), "epochs", 0) for i in range(4)] == [9, 5, 7, 5]


def test_a_loop_runs_and_its_run_directory_has_every_round(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, looped(tmp_path)))
    summary = run(recipe)
    assert set(summary["results"]) == {"base", "student-1", "student-2"}
    kept = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert [stage["name"] for stage in kept["stages"]][-2:] == ["student-2", "end"]
    assert run(load_recipe(str(tmp_path / "run/recipe.yaml")))["stages"]["student-2"]["status"] == "skipped"
    more = run(load_recipe(str(tmp_path / "loop.yaml"), ["rounds=3", "answers-3.samples=1"]))["stages"]
    assert [more[f"student-{i}"]["status"] for i in (1, 2, 3)] == ["skipped", "skipped", "done"]
    page = (tmp_path / "run/report.html").read_text()
    assert page.count("0 of 12 questions have a label (dropped: 12 ") == 3


def test_the_recipe_is_shown_with_every_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, looped(tmp_path))
    guarded(lambda: app(["recipes", path, "--written-out"], standalone_mode=False))
    shown = yaml.safe_load(capsys.readouterr().out)
    assert len(shown["stages"]) == 8 and shown["rounds"] == 1
    guarded(lambda: app(["recipes", path], standalone_mode=False))
    assert len(yaml.safe_load(capsys.readouterr().out)["stages"]) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rounds": 0}, "rounds: 0 is no number of rounds; write 1, 2, 3"),
        ({"rounds": "two"}, "rounds: 'two' is no number of rounds"),
        ({"rounds": None}, "rounds: None is no number of rounds"),
        ({"title": "round {round}"}, "title: `round {round}` names a round in what is not repeated"),
        ({"stages": [{"name": "one", "kind": "warmup", "data": "train"}]}, "`rounds: 2` repeats nothing"),
        (
            {"stages": [{"name": "a-{round}", "kind": "warmup", "data": "train", "policy": "stage:a-{before}"}]},
            "stages.a-{round}: `stage:a-{before}` is `a-0` in round 1, and no stage has this name",
        ),
        (
            {
                "stages": [
                    {"name": "a-{round}", "kind": "warmup", "data": "train"},
                    {"name": "b", "kind": "warmup", "data": "train", "policy": "stage:a-{round}"},
                ]
            },
            "stages.b.policy: `stage:a-{round}` names a round in what is not repeated",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as stop:
        load_recipe(write(tmp_path, looped(tmp_path, **changes)))
    assert words in str(stop.value)


def test_a_round_without_rounds_is_a_mistake(tmp_path: Path) -> None:
    content = looped(tmp_path)
    del content["rounds"]
    with pytest.raises(RecipeError, match="names a round, but there is no `rounds`"):
        load_recipe(write(tmp_path, content))
