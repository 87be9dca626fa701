"""What a row says of the training questions behind its checkpoint."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.errors import RecipeError
from yonder.evaluation.benchmarks import accuracy_text
from yonder.evaluation.contamination import Contamination
from yonder.pipeline.running import run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.references import trained_on

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"question": text, "answer": "1", "solution": "def solution():\n    return 1"} | more


def recipe(folder: Path) -> Recipe:
    """Warm-up on `train`, RL on it and on `plus`; the test asks three of their questions in some form."""
    plus = [question("Bo has 9 hens?", seed_question="Ann has 3 hens?"), question("New?")]
    data = {
        "train": {"source": lines(folder / "train.jsonl", [question("Two  and two?"), question("Else?")])},
        "plus": {"source": lines(folder / "plus.jsonl", plus), "labeled": False},
        "mixed": {"mixture": {"train": 0.5, "plus": 0.5}, "labeled": False},
        "test": {
            "source": lines(
                folder / "test.jsonl",
                [question("two and two"), question("Ann has 3 hens"), question("Cy?"), question("Else...")],
            )
        },
    }
    warm = {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1}
    rl = {
        "name": "rl", "kind": "distill", "policy": "stage:warmup", "steps": 2, "prompts": {"train": 1, "plus": 1},
        "terms": [
            {"reward": "correct", "data": "train", "weight": 1.0},
            {"reward": "tests.evaluation.test_contamination:nothing", "data": "plus", "weight": 0.0},
        ],
    }  # fmt: skip
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["base", "warmup", "rl"], "benchmarks": ["test"]}
    changes = {"data": data, "stages": [warm, rl, end], "benchmarks": {"test": {"data": "test"}}}
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(tree(folder) | changes))
    return load_recipe(str(path))


def nothing(rollouts: list[Any]) -> list[float]:
    """A reward."""
    return [0.0 for _ in rollouts]


def test_each_row_says_what_its_own_checkpoint_was_trained_on(tmp_path: Path):
    made = recipe(tmp_path)
    assert (trained_on(made, "warmup"), trained_on(made, "rl"), trained_on(made, "base")) == (
        ("train",),
        ("train", "plus"),
        (),
    )
    run(made)
    rows = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    base, warm, rl = rows
    assert "contamination" not in base
    assert warm["contamination"] == {
        "checked_against": ["train"], "exact": 2, "perturbed": 0, "near": 0, "chosen": 0,
        "note": "contaminated: of 4 test questions 2 stand in the training data word for word (train)",
    }  # fmt: skip
    found = rl["contamination"]
    assert (found["checked_against"], found["exact"], found["perturbed"]) == (["train", "plus"], 2, 1)
    assert found["note"].endswith("1 perturb training questions or are perturbed by them (plus)")
    assert accuracy_text(rl).endswith("CONTAMINATED: 3 questions")
    assert "CONTAM" not in accuracy_text(base)


def test_a_test_set_under_another_name_that_chose_the_checkpoint_is_told(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    tests = (tmp_path / "test.jsonl").read_text()
    (tmp_path / "val.jsonl").write_text(tests.replace("Cy?", "Di?"))
    changed = tree(tmp_path) | yaml.safe_load((tmp_path / "r.yaml").read_text())
    changed["data"]["val"] = {"source": str(tmp_path / "val.jsonl")}
    changed["stages"][1]["evaluate"] = {"data": "val", "every": 1}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(changed))
    made = load_recipe(str(tmp_path / "r.yaml"))
    warm, rl = (Contamination(made).check(name, "test") for name in ("warmup", "rl"))
    assert warm is not None and warm["chosen"] == 0
    assert rl is not None and rl["chosen"] == 3 and rl["note"].endswith("3 helped to choose the checkpoint (val)")
    changed["data"]["val"]["source"] = str(tmp_path / "." / "sub" / ".." / "test.jsonl").replace("/sub/../", "/./")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(RecipeError, match="has the questions of benchmark `test`"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_near_questions_alone_are_said_in_milder_words(tmp_path: Path):
    ten = "one two three four five six seven eight nine ten"
    made = recipe(tmp_path)
    lines(tmp_path / "train.jsonl", [question(f"{ten} and a hen")])
    lines(tmp_path / "test.jsonl", [question(f"{ten} and a cow"), question("Cy?")])
    found = Contamination(made).check("warmup", "test")
    assert found is not None and (found["exact"], found["perturbed"], found["near"]) == (0, 0, 1)
    note = "close to training data: of 2 test questions 1 are nearly the same as training questions (train)"
    assert found["note"] == note
    row = {"accuracy": 0.5, "low": 0.1, "high": 0.9, "n": 2, "contamination": found}
    assert accuracy_text(row) == "50.0% [10.0%, 90.0%]  1 questions nearly in the training data"


def test_mixtures_are_looked_into_and_lost_data_are_named(tmp_path: Path):
    made = recipe(tmp_path)
    check = Contamination(made)
    assert len(check._read("mixed")) == 4  # type: ignore[arg-type]
    (tmp_path / "plus.jsonl").unlink()
    found = Contamination(made).check("rl", "test")
    assert found is not None and found["perturbed"] == 0
    assert found["note"].endswith("not checked against plus, which could not be read")


@pytest.mark.shared
def test_gsm_plus_perturbs_gsm8k_test(tmp_path: Path):
    path = SHARED / "gsmplus_testmini_even.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    data = {
        "plus": {"source": lines(tmp_path / "plus.jsonl", rows), "labeled": False},
        "train": {"source": "gsm8k"},
        "test": {"source": "gsm8k", "split": "test"},
    }
    warm = {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1}
    rl = tree(tmp_path)["stages"][1] | {
        "prompts": {"plus": 2},
        "terms": [{"reward": "a:b", "data": "plus", "weight": 1}],
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tree(tmp_path) | {"data": data, "stages": [warm, rl]}))
    check = Contamination(load_recipe(str(tmp_path / "r.yaml")))
    clean, found = check.check("warmup", "test"), check.check("rl", "test")
    assert clean is not None and (clean["exact"], clean["perturbed"], clean["near"]) == (0, 0, 1)
    assert found is not None and (found["exact"], found["perturbed"]) == (0, 300)
