"""Whole stages of a small recipe in this process: which are due, what is refused, what the summary holds."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.commands.terminal import print_results
from yonder.data.attacks import ATTACKS
from yonder.data.responses import read_lines
from yonder.errors import DataError, RecipeError, StorageError, TrainingError
from yonder.evaluation.benchmarks import accuracy_text
from yonder.pipeline import running
from yonder.pipeline.running import Runner, run
from yonder.recipe import load_recipe
from yonder.recipe.attacks import WITHHELD
from yonder.reporting.page import write_report
from yonder.storage import only_one
from yonder.training.progress import Silent


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        """Remember one line."""
        self.said.append(message)


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


def test_a_command_for_one_stage_forgets_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, [WARMUP | {"epochs": 2}, EVALUATION], benchmarks={"train": {"data": "train"}})
    whole = run(load_recipe(str(path)))
    rows = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert len(rows) == 2
    part = run(load_recipe(str(path)), ["warmup"])
    assert part["results"] == whole["results"]
    assert read_lines(tmp_path / "run" / "evaluations.jsonl") == rows
    with monkeypatch.context() as patch:  # what the evaluation was made from is gone
        patch.setattr(running, "fingerprint", lambda *_: Path("/nowhere").read_bytes())
        patch.setattr(running, "data_of", lambda stage: [] if stage.name == "warmup" else [("", "train")])
        assert list(run(load_recipe(str(path), ["warmup.epochs=1"]), ["warmup"])["stages"]) == ["warmup"]
    other = run(load_recipe(str(path), ["warmup.epochs=3"]), ["warmup"])  # whose model nobody has evaluated
    assert other["results"] == {} and list(other["stages"]) == ["warmup"]


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


def test_a_vote_and_unscored_questions_stand_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "What is 1 + 1?", "answer": answer} for answer in ("2", "None", "5 dollars")]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i, row in enumerate(rows)))
    data = {"odd": {"source": str(tmp_path / "test.jsonl")}}
    stages = [{"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": ["odd"]}]
    path = write(tmp_path, stages, data=data, task={"format": "text"}, benchmarks={"odd": {"data": "odd", "votes": 2}})
    summary = run(load_recipe(str(path)))
    print_results(summary)
    shown = accuracy_text(summary["results"]["base"]["odd"])
    assert shown.startswith("0.0% [0.0%, 79.3%] of 1, 2 unscored  vote@2 ")
    assert shown in capsys.readouterr().out


def test_a_benchmark_without_readable_labels_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "What?", "answer": "seven"}\n')
    data = {"odd": {"source": str(tmp_path / "test.jsonl")}}
    stages = [{"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": ["odd"]}]
    path = write(tmp_path, stages, data=data, task={"format": "text"}, benchmarks={"odd": {"data": "odd"}})
    heard = Heard()
    summary = run(load_recipe(str(path)), progress=heard)
    assert summary["results"]["base"]["odd"]["accuracy"] is None
    assert heard.said[0].startswith("base on odd: not measured, 1 unscored (")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.train.labeled=false"], "stages.rl.terms.0: data set `train` has `labeled: false`"),
        (["task.format=open"], "stages.rl.terms.0: `format: open` has no right answer to verify"),
    ],
)
def test_what_cannot_be_verified_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    path = write(tmp_path, tree(tmp_path)["stages"])
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_recipe(str(path), overrides)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"question": "What?", "gold": "7"}\n', "no row has an answer"),
        ('{"question": "What?", "answer": "7"}\n{"question"\n', "line 2: not JSON"),
    ],
)
def test_a_bad_test_set_is_found_before_anything_runs(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "test.jsonl").write_text(lines)
    data = tree(tmp_path)["data"] | {"odd": {"source": str(tmp_path / "test.jsonl")}}
    stages = [WARMUP, {"name": "end", "kind": "evaluate", "checkpoints": ["warmup"], "benchmarks": ["odd"]}]
    path = write(tmp_path, stages, data=data, benchmarks={"odd": {"data": "odd"}})
    with pytest.raises(DataError, match=words):
        run(load_recipe(str(path)))
    assert not (tmp_path / "run").exists()


def test_a_run_that_learns_nothing_says_so(tmp_path: Path) -> None:
    stages = [stage | {"policy": None} for stage in tree(tmp_path)["stages"][1:]]
    heard = Heard()
    summary = run(load_recipe(str(write(tmp_path, stages)), ["rl.kl.beta=0", "rl.ppo.value_coef=0"]), progress=heard)
    assert any("rl: nothing was learned" in line for line in heard.said)
    assert summary["stages"]["rl"]["alarm"].startswith("nothing was learned")


def test_a_reward_without_scores_is_shown_as_unscored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_silent.py").write_text("def f(rollouts):\n    return [None] * len(rollouts)\n")
    monkeypatch.chdir(tmp_path)
    stages = [stage | {"policy": None} for stage in tree(tmp_path)["stages"][1:]]
    stages[0] = stages[0] | {"terms": [{"reward": "my_silent:f", "data": "train", "weight": 1.0}]}
    run(load_recipe(str(write(tmp_path, stages))))
    rows = [json.loads(line) for line in (tmp_path / "run/stages/rl/metrics.jsonl").read_text().splitlines()]
    assert [row["terms/my_silent:f@train/reward_mean"] for row in rows] == [None]


def test_two_processes_do_not_share_a_run_directory(tmp_path: Path) -> None:
    with only_one(tmp_path / "run"), pytest.raises(StorageError, match="another process works in the run directory"):
        run(load_recipe(str(write(tmp_path, [WARMUP]))))
    run(load_recipe(str(write(tmp_path, [WARMUP])), ["warmup.epochs=1"]))


def test_completions_end_at_the_models_context(tmp_path: Path) -> None:
    short = {"family": "gpt2", "hidden_size": 16, "layers": 1, "heads": 2, "context": 128}  # positions are learned
    path = write(tmp_path, [EVALUATION | {"checkpoints": ["base"]}], benchmarks={"train": {"data": "train"}})
    limits = ["policy.max_completion_tokens=400", f"policy.model={json.dumps(short)}"]
    assert run(load_recipe(str(path), limits))["results"]["base"]["train"]["n"] == 12
    with pytest.raises(DataError, match="and the policy only 16 positions"):
        run(load_recipe(str(path), [*limits, "policy.model.context=16"]))


def test_an_interrupt_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_impatient.py").write_text("def f(rollouts):\n    raise KeyboardInterrupt\n")
    path = write(tmp_path, [stage | {"policy": None} for stage in tree(tmp_path)["stages"][1:]])
    command = [sys.executable, "-m", "yonder", "run", str(path), "rl.terms.0.reward=my_impatient:f"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 130
    assert done.stderr.strip().splitlines()[-1].startswith("yonder: interrupted; the same command continues")


@pytest.mark.parametrize("stop", [True, False])
def test_a_judge_that_fails_stops_the_run_unless_it_is_only_measured(tmp_path: Path, stop: bool) -> None:
    stages = [
        WARMUP,
        {"name": "answers", "kind": "collect", "data": "train", "samples": 1},
        {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"], "stop": stop},
    ]
    stages[1]["policy"] = "stage:warmup"
    rewards = {"judge": {"kind": "judge", "model": "stage:warmup"}}  # its mass is next to nothing
    recipe = load_recipe(str(write(tmp_path, stages, rewards=rewards)), ["policy.max_completion_tokens=40"])
    if not stop:
        assert run(recipe)["stages"]["check"]["verdict"] == "fail"
        return
    with pytest.raises(
        TrainingError, match=r"stage check: \d+ of \d+ responses have no score|stage check: the judge gives"
    ):
        run(recipe)
    record = json.loads((recipe.output_dir / "stages/check/stage.json").read_text())
    assert (record["status"], record["ended"]["by"]) == ("unfinished", "TrainingError")
    assert record["ended"]["said"].startswith("stage check: ")
    page = json.loads(write_report([recipe.output_dir]).with_suffix(".json").read_text())
    (notice,) = [one for one in page["notices"] if "unfinished" in one["message"]]
    assert notice["level"] == "stop" and notice["message"].endswith(f"It ended with: {record['ended']['said']}")


def test_a_stage_that_goes_on_and_ends_well_keeps_no_old_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(write(tmp_path, [WARMUP | {"epochs": 1}])))

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.Lead, "run", broken)
        with pytest.raises(KeyboardInterrupt):
            run(recipe)
    record = recipe.output_dir / "stages/warmup/stage.json"
    assert json.loads(record.read_text())["ended"] == {"by": "KeyboardInterrupt", "said": "KeyboardInterrupt"}
    run(recipe)
    assert json.loads(record.read_text())["status"] == "done" and "ended" not in json.loads(record.read_text())


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


def test_no_secret_reaches_the_run_directory(tmp_path: Path) -> None:
    path = write(tmp_path, [WARMUP])
    run(load_recipe(str(path), ["title=with hf_abcdefghijklmnopqrst1234", "warmup.epochs=1"]))
    for name in ("recipe.yaml", "summary.json", "card.json", "report.html"):
        text = (tmp_path / "run" / name).read_text(encoding="utf-8")
        assert "hf_abcdefghijklmnopqrst1234" not in text
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")).stage("warmup").name == "warmup"


def test_verdicts_on_single_questions_stand_beside_the_summary(tmp_path: Path) -> None:
    path = write(
        tmp_path, [EVALUATION | {"checkpoints": ["base"]}], benchmarks={"train": {"data": "train", "votes": 2}}
    )
    cell = run(load_recipe(str(path)))["results"]["base"]["train"]
    assert "correct" not in cell
    assert "correct" not in cell["vote"]
    row = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text())
    assert len(row["correct"]) == len(row["vote"]["correct"]) == 12


def test_only_the_data_sets_that_decide_what_a_stage_reads_are_in_its_hash(tmp_path: Path) -> None:
    one, two = ({"source": "word-problems", "options": {"count": 12, "seed": i}} for i in (1, 2))
    data = {
        "train": {"source": "svamp", "limit": 40},
        "one": one,
        "two": two,
        "mixed": {"mixture": {"one": 0.5, "two": 0.5}},
    }
    stages = [WARMUP, WARMUP | {"name": "mix", "data": "mixed"}]

    def hashes(**more: object) -> list[str]:
        recipe = load_recipe(str(write(tmp_path, stages, data=data | more)))
        runner = Runner(recipe, Heard())
        return [runner.made(stage).hash for stage in recipe.stages]

    first = hashes()
    assert hashes(another={"source": "gsm8k"}) == first
    assert hashes(two=two | {"limit": 6}) == [first[0], hashes(two=two | {"limit": 6})[1]]
    assert hashes(two=two | {"limit": 6})[1] != first[1]  # a part of the mixture
    apart = hashes(another={"source": "svamp", "development": 5})
    assert apart[0] != first[0] and apart[1] == first[1]  # takes questions from `train`
    assert hashes(another={"source": "svamp", "split": "test", "development": 5}) == first


def test_worked_questions_are_in_the_hash(tmp_path: Path) -> None:
    source = {"source": "svamp", "limit": 40}
    task = {"format": "text", "stop": ["\nQuestion:"]}

    def found(limit: int) -> str:
        worked = {"source": "svamp", "split": "test", "limit": limit}
        data = {"train": source | {"shots": 2, "shots_from": "worked"}, "worked": worked}
        recipe = load_recipe(str(write(tmp_path, [WARMUP], data=data, task=task)))
        return Runner(recipe, Heard()).made(recipe.stages[0]).hash

    assert found(10) != found(11)
