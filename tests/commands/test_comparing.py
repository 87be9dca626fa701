"""`yonder compare` on run directories as the evaluate stage writes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.test_errors import tree
from yonder.commands.cli import app
from yonder.commands.comparing import compare_runs
from yonder.errors import DataError
from yonder.evaluation.comparison import compare
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.stages.evaluate import questions_hash


def row(correct: list[bool | None], **more: Any) -> dict[str, Any]:
    return {"stage": "rl", "benchmark": "test", "correct": correct, "questions": "abc"} | more


def write(folder: Path, *rows: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(folder)


A = [True, False, False, False, False, False, True, False, None]
B = [False, True, True, True, True, True, True, False, True]


def test_the_figures_are_those_of_the_questions_that_both_scored():
    found = compare(A, B)  # as in tests/core/test_statistics.py: 1 only a, 5 only b, of 8
    assert (found.a.value, found.b.value, found.difference.value) == (0.25, 0.75, 0.5)
    assert found.p == pytest.approx(14 / 64)
    assert (found.only_a, found.only_b, found.left_out) == ((0,), (1, 2, 3, 4, 5), 1)
    record = found.to_json()
    assert record["difference"]["points"] == 50.0
    assert record["difference"]["low"] == pytest.approx(-5.545, abs=1e-2)
    assert compare([None], [True]).to_json()["difference"]["p"] is None
    with pytest.raises(ValueError):
        compare([True], [])


def test_rows_of_the_same_name_are_compared_and_votes_too(tmp_path: Path):
    vote = {"samples": 4, "correct": [True] * 9}
    a = write(tmp_path / "a", row(A, vote=vote), row([True], stage="warmup"))
    b = write(tmp_path / "b", row(B, vote=vote | {"correct": [False] * 9}))
    found = compare_runs(a, b)["rows"]
    assert [(one["stage_a"], one["stage_b"], one["way"], one["only_b"]) for one in found] == [
        ("rl", "rl", "greedy", 5),
        ("rl", "rl", "vote@4", 0),
    ]
    assert [(e["right"], e["place"]) for e in found[0]["examples"]] == [("b", 1), ("b", 2), ("b", 3), ("a", 0)]
    other = write(tmp_path / "other", row(B, vote=vote | {"samples": 8}))
    assert [one["way"] for one in compare_runs(a, other)["rows"]] == ["greedy"]  # another number of votes


def test_stages_are_named_behind_a_colon(tmp_path: Path):
    a = write(tmp_path / "a", row(A), row(B, stage="warmup"))
    (found,) = compare_runs(f"{a}:warmup", f"{a}:rl")["rows"]
    assert (found["stage_a"], found["stage_b"], found["only_a"], found["only_b"]) == ("warmup", "rl", 5, 1)
    b = write(tmp_path / "b", row(B), row(B, stage="warmup"))
    assert [one["stage_b"] for one in compare_runs(f"{a}:rl", b)["rows"]] == ["rl"]


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path):
    a = write(tmp_path / "a", row(A))
    with pytest.raises(DataError, match="there is no run directory"):
        compare_runs(a, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="empty is no run directory; give the output_dir"):
        compare_runs(a, write(tmp_path / "empty"))
    (tmp_path / "empty/card.json").write_text("{}")
    with pytest.raises(DataError, match="has no evaluations; run its evaluate stage"):
        compare_runs(a, str(tmp_path / "empty"))
    recipe = tree(tmp_path) | {"stages": [one for one in tree(tmp_path)["stages"] if one["kind"] != "evaluate"]}
    (tmp_path / "empty/recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(DataError, match=r"has no evaluate stage: add one .* `yonder run`, which skips"):
        compare_runs(a, str(tmp_path / "empty"))
    with pytest.raises(DataError, match="has no evaluation of `sft`; it has rl"):
        compare_runs(a, f"{a}:sft")
    with pytest.raises(DataError, match="both sides are the same; name two stages"):
        compare_runs(a, a)
    with pytest.raises(DataError, match="no benchmark in common"):
        compare_runs(a, write(tmp_path / "apart", row(A, benchmark="svamp")))
    with pytest.raises(DataError, match="did not answer the same questions"):
        compare_runs(a, write(tmp_path / "changed", row(B, questions="def")))
    with pytest.raises(DataError, match="it is not known whether both answered the same questions"):
        old = row(B)
        del old["questions"]
        compare_runs(a, write(tmp_path / "old", old))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "evaluations.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"evaluations\.jsonl, line 1"):
        compare_runs(a, str(broken))


def test_what_the_checkpoints_were_trained_on_is_said(tmp_path: Path):
    said = {"exact": 1, "note": "contaminated: of 9 test questions 1 stand in the training data word for word (t)"}
    a = write(tmp_path / "a", row(A, contamination=said), row(B, stage="base"))
    (found,) = compare_runs(f"{a}:base", f"{a}:rl")["rows"]
    assert found["warnings"] == [f"rl: {said['note']}"]
    shown = CliRunner().invoke(app, ["compare", f"{a}:base", f"{a}:rl"]).output
    assert shown.count(f"test, rl: {said['note']}") == 1


def test_a_sweep_is_no_run_to_compare(tmp_path: Path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(DataError, match=r"is a sweep; give one of its runs, as .*/ROW/seed-0"):
        compare_runs(str(tmp_path), str(tmp_path))


def test_two_real_runs_and_the_command(tmp_path: Path):
    def evaluated(name: str, *overrides: str) -> str:
        end = {"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": ["train"]}
        recipe = tree(tmp_path) | {"stages": [end], "benchmarks": {"train": {"data": "train"}}}
        recipe["output_dir"] = str(tmp_path / name)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        run(load_recipe(str(tmp_path / f"{name}.yaml"), list(overrides)))
        return str(tmp_path / name)

    a, b = evaluated("a"), evaluated("b", "seed=1")
    (found,) = compare_runs(a, b)["rows"]
    assert (found["n"], found["left_out"], found["difference"]["p"]) == (12, 0, 1.0)
    shown = CliRunner().invoke(app, ["compare", a, b])
    assert shown.exit_code == 0 and "McNemar" in shown.output
    flipped = json.loads((tmp_path / "b" / "evaluations.jsonl").read_text())
    flipped["correct"][3] = not flipped["correct"][3]
    del flipped["questions"]  # as an older version wrote it: the questions are read again
    (tmp_path / "b" / "evaluations.jsonl").write_text(json.dumps(flipped))
    as_json = CliRunner().invoke(app, ["compare", a, b, "--json"])
    (example,) = json.loads(as_json.output)["rows"][0]["examples"]
    assert example["place"] == 3 and example["question"] and example["answer"]


def test_the_hash_says_what_the_questions_are():
    from yonder.schema import Prompt

    one = Prompt("a", "q", "", answer="1")
    assert questions_hash([one]) == questions_hash([Prompt("other id", "q", "another format", answer="1")])
    assert questions_hash([one]) != questions_hash([Prompt("a", "q", "", answer="2")])
    assert len(questions_hash([])) == 16
