"""Whole runs that are stopped, damaged or changed in between: what goes on, what is refused, what is set aside."""

import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.judges.faulty import serving
from tests.pipeline.test_pipeline import Heard, write
from tests.slow.kills import outcome, unpacked
from tests.test_errors import tree
from yonder.data.responses import append_lines, read_lines, read_responses
from yonder.errors import RecipeError, Stopped, StorageError
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.schema import Response
from yonder.signals import StopRequest
from yonder.storage import read_json
from yonder.training.progress import Silent

BENCHMARKS = {"train": {"data": "train"}}


class Stopping(Heard):
    """Asks for a stop when a loop of this title has done so much."""

    def __init__(self, title: str, done: int = 0) -> None:
        super().__init__()
        self.stop, self.title, self.done, self.here = StopRequest(), title, done, ""

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.here = title
        self.advance(done, {})

    def advance(self, done: int, facts: dict[str, str]) -> None:
        self.stop.asked |= self.here == self.title and done >= self.done


def every_stage(folder: Path) -> Path:
    """A recipe with all kinds of stages that a signal can end."""
    answers = {"name": "answers", "kind": "collect", "data": "train", "samples": 2}
    stages = [
        *[stage | {"policy": None} for stage in tree(folder)["stages"]],
        answers,
        {"name": "judge", "kind": "fit-judge", "output": "classifier", "model": tree(folder)["policy"]["model"],
         "tokenizer": "yonder:tokenizer", "responses": ["answers"], "data": ["train"], "held_out": 0.4, "epochs": 2,
         "batch_size": 4},
        {"name": "check", "kind": "check-judge", "reward": "reranker", "responses": ["answers"]},
        {"name": "end", "kind": "evaluate", "checkpoints": ["base", "warmup", "rl"], "benchmarks": ["train"]},
    ]  # fmt: skip
    stages[0] |= {"epochs": 2, "batch_size": 4}
    stages[1] |= {"steps": 6, "save_every": 4}
    rewards = {"correct": {"kind": "verifiable"}, "reranker": {"kind": "classifier", "model": "stage:judge"}}
    policy = tree(folder)["policy"] | {"generation_batch": 8}
    return write(folder, stages, benchmarks=BENCHMARKS, rewards=rewards, policy=policy)


def test_stopped_in_every_stage_ends_as_an_unbroken_run(tmp_path: Path) -> None:
    path = str(every_stage(tmp_path))
    run(load_recipe(path, [f"output_dir={tmp_path}/whole"]))
    points = [
        ("warmup", 0),
        ("warmup", 1),
        ("rl", 2),
        ("answers", 4),
        ("judge", 0),
        ("check", 0),
        ("warmup on train", 0),
    ]
    said: list[str] = []
    for title, done in points:
        progress = Stopping(title, done)
        with pytest.raises(Stopped) as stopped:
            run(load_recipe(path, [f"output_dir={tmp_path}/broken"]), progress=progress, stop=progress.stop)
        said.append(str(stopped.value).partition("; stopped as asked")[0])
    run(load_recipe(path, [f"output_dir={tmp_path}/broken"]))
    assert said == [
        "warmup: saved after 0 epochs and 1 steps",
        "warmup: saved after 1 epochs",
        "rl: saved at step 2",
        "answers: saved after 4 questions",
        "judge: saved after 0 epochs and 1 steps",
        "no stage is running",  # a check is not divided
        "end: saved after 2 of its evaluations",
    ]
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def unfinished(folder: Path, **data: Any) -> Path:
    """A run stopped in mid-distillation."""
    stages = [stage | {"policy": None} for stage in tree(folder)["stages"]]
    stages[1] |= {"steps": 6}
    path = write(folder, stages, **data)
    progress = Stopping("rl", 2)
    with pytest.raises(Stopped):
        run(load_recipe(str(path)), progress=progress, stop=progress.stop)
    return path


def test_a_changed_recipe_is_shown_and_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    before = (tmp_path / "run/recipe.yaml").read_text()
    words = (
        "stage rl is unfinished and was begun with something else (stages.rl.optimizer.lr: 3e-06 -> 0.001; "
        "sandbox.timeout_s: 1.0 -> 3.0); undo that, change output_dir, or add --allow-changes, with which it goes on"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(words)}$"):
        run(load_recipe(str(path), ["rl.optimizer.lr=1e-3", "sandbox.timeout_s=3"]))
    assert (tmp_path / "run/recipe.yaml").read_text() == before
    run(load_recipe(str(path)))  # undone: it goes on as if nothing was


def test_with_allow_changes_it_goes_on_with_the_new_values(tmp_path: Path) -> None:
    path, heard = unfinished(tmp_path), Heard()
    allowed = load_recipe(str(path), ["rl.optimizer.lr=1e-3", "rl.optimizer.weight_decay=0.1", "rl.steps=8"])
    run(allowed, progress=heard, allow_changes=True)
    assert "rl: resumed at step 2" in heard.said
    assert any(line.startswith("rl: goes on, changed (stages.rl.steps: 6 -> 8; ") for line in heard.said)
    rows = [json.loads(line) for line in (tmp_path / "run/stages/rl/metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["lr"]) for row in rows] == [(2, 3e-6), (4, 1e-3), (6, 1e-3), (8, 1e-3)]
    record = read_json(tmp_path / "run/stages/rl/stage.json")
    assert record["status"] == "done"
    assert record["changes"] == [
        {
            "stages.rl.steps": [6, 8],
            "stages.rl.optimizer.lr": [3e-6, 1e-3],
            "stages.rl.optimizer.weight_decay": [0.0, 0.1],
        }
    ]
    again = Heard()
    run(allowed, progress=again)
    assert again.said == ["warmup: unchanged, skipped", "rl: unchanged, skipped"]


def test_what_a_checkpoint_is_made_of_means_beginning_anew(tmp_path: Path) -> None:
    path, heard = unfinished(tmp_path), Heard()
    with pytest.raises(RecipeError, match=r"with which it is set aside and begun anew$"):
        run(load_recipe(str(path), ["rl.ppo.value_per_term=false"]))
    run(load_recipe(str(path), ["rl.ppo.value_per_term=false"]), progress=heard, allow_changes=True)
    assert any("configuration or inputs changed (stages.rl.ppo.value_per_term: True -> False)" in s for s in heard.said)
    assert not any("resumed" in line for line in heard.said)
    (kept,) = (tmp_path / "run/stages/.replaced").glob("rl-*")
    assert (kept / "checkpoints/step-00000002/trainer.pt").is_file()


def test_a_stage_before_it_that_changed_is_refused_before_it_is_made_anew(tmp_path: Path) -> None:
    stages = tree(tmp_path)["stages"]
    stages[1] |= {"steps": 6}
    path, progress = write(tmp_path, stages), Stopping("rl", 2)
    with pytest.raises(Stopped):
        run(load_recipe(str(path)), progress=progress, stop=progress.stop)
    with pytest.raises(RecipeError, match=r"stage rl is unfinished .*\(results of warmup: \w{12} -> \w{12}\)"):
        run(load_recipe(str(path), ["warmup.epochs=2"]))
    assert not (tmp_path / "run/stages/.replaced").exists()


def test_a_changed_data_set_is_refused_by_name_and_hash(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(6)]
    file = tmp_path / "mine.jsonl"

    def fill(count: int) -> None:
        file.write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i, row in enumerate(rows[:count])))

    fill(6)
    stages = [stage | {"policy": None} for stage in tree(tmp_path)["stages"][1:]]
    stages[0] |= {"steps": 6}
    path, progress = write(tmp_path, stages, data={"train": {"source": str(file)}}), Stopping("rl", 2)
    with pytest.raises(Stopped):
        run(load_recipe(str(path)), progress=progress, stop=progress.stop)
    fill(5)
    with pytest.raises(RecipeError, match=r"stage rl is unfinished .*\(contents of data.train: \w{12} -> \w{12}\)"):
        run(load_recipe(str(path)))
    heard = Heard()
    run(load_recipe(str(path)), progress=heard, allow_changes=True)
    assert "rl: resumed at step 2" in heard.said
    assert "rl: train has other questions now; its stream begins anew" in heard.said


def test_a_finished_stage_is_set_aside_with_the_keys_that_changed(tmp_path: Path) -> None:
    path = write(tmp_path, tree(tmp_path)["stages"][:1])
    run(load_recipe(str(path)))
    heard = Heard()
    run(load_recipe(str(path), ["warmup.batch_size=6"]), progress=heard)
    words = "warmup: configuration or inputs changed (stages.warmup.batch_size: 24 -> 6); the earlier"
    assert any(line.startswith(words) for line in heard.said)


def test_how_is_sampled_does_not_concern_a_warm_up_that_samples_nothing(tmp_path: Path) -> None:
    path = str(write(tmp_path, tree(tmp_path)["stages"][:1]))
    run(load_recipe(path))
    for key, value in (("decoding", "static"), ("generation_batch", 7), ("max_completion_tokens", 9)):
        heard = Heard()
        run(load_recipe(path, [f"policy.{key}={value}"]), progress=heard)
        assert "warmup: unchanged, skipped" in heard.said
    measured = ["warmup.evaluate.data=train.development", "warmup.evaluate.every=1", "data.train.development=4"]
    run(load_recipe(path, measured))
    heard = Heard()
    run(load_recipe(path, [*measured, "policy.decoding=static"]), progress=heard)
    assert any("changed (policy.decoding: auto -> static)" in line for line in heard.said)


def test_a_stage_without_its_record_is_set_aside_not_trusted(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    (tmp_path / "run/stages/rl/stage.json").write_text('{"name": "rl", ')
    heard = Heard()
    run(load_recipe(str(path)), progress=heard)
    assert any(line.startswith("rl: its record stage.json is missing or damaged; the earlier") for line in heard.said)
    assert not any("rl: resumed" in line for line in heard.said)


# ----- damage


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("title", ["warmup", "rl", "judge"])
def test_a_stage_whose_only_checkpoint_is_damaged_begins_again_and_ends_the_same(
    tmp_path: Path, title: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(every_stage(tmp_path))
    run(load_recipe(path, [f"output_dir={tmp_path}/whole"]))
    progress = Stopping(title, 1)
    with pytest.raises(Stopped):
        run(load_recipe(path, [f"output_dir={tmp_path}/broken"]), progress=progress, stop=progress.stop)
    (checkpoint,) = (tmp_path / f"broken/stages/{title}/checkpoints").glob("step-*")
    damage(checkpoint / "policy/model.safetensors")
    heard = Heard()
    run(load_recipe(path, [f"output_dir={tmp_path}/broken"]), progress=heard)
    assert f"{checkpoint} is damaged; starting again" in caplog.text
    assert not any("resumed" in line for line in heard.said)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, every = str(every_stage(tmp_path)), "rl.save_every=2"
    run(load_recipe(path, [f"output_dir={tmp_path}/whole", every]))
    broken, progress = load_recipe(path, [f"output_dir={tmp_path}/broken", every]), Stopping("rl", 4)
    with pytest.raises(Stopped):
        run(broken, progress=progress, stop=progress.stop)
    damage(tmp_path / "broken/stages/rl/checkpoints/step-00000004/trainer.pt")
    heard = Heard()
    run(broken, progress=heard)
    assert "step-00000004 is damaged; using the one before it" in caplog.text
    assert "rl: resumed at step 2" in heard.said
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def test_a_damaged_checkpoint_of_a_finished_stage_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, tree(tmp_path)["stages"])
    run(load_recipe(str(path)), ["warmup"])
    (checkpoint,) = (tmp_path / "run/stages/warmup/checkpoints").glob("step-*")
    damage(checkpoint / "trainer.pt")  # nothing that a later stage reads
    run(load_recipe(str(path), ["rl.steps=4"]))
    damage(checkpoint / "policy/model.safetensors")
    with pytest.raises(StorageError, match=r"step-00000001/policy of stage warmup is damaged; restore it"):
        run(load_recipe(str(path)))


@pytest.mark.parametrize(("read", "words"), [(read_lines, "not JSON"), (read_responses, "not a response")])
def test_a_damaged_line_of_collected_rows_is_one_sentence(
    tmp_path: Path, read: Callable[[Path], list[Any]], words: str
) -> None:
    row = Response("1", "q", "r", True, "test").to_json()
    path = tmp_path / "rows.jsonl"
    append_lines(path, [row, row, row])
    path.write_bytes(path.read_bytes()[:-5])  # a half line at the end is what a killed process leaves
    assert len(read(path)) == 2
    append_lines(path, [row])
    assert len(read(path)) == 3
    path.write_text(path.read_text().replace("{", "", 1))
    with pytest.raises(StorageError, match=rf"rows.jsonl, line 1: {words} .*; delete the line"):
        read(path)
    path.write_bytes(b"\xff\n" + path.read_bytes())
    with pytest.raises(StorageError, match=rf"rows.jsonl, line 1: {words} .*; delete the line"):
        read(path)


# ----- what was generated and judged, and not yet in a checkpoint


class Crashing(Silent):
    """Ends the process, as it were, when a loop of this title has done so much."""

    def __init__(self, title: str, done: int) -> None:
        self.title, self.done, self.here = title, done, ""

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.here = title

    def advance(self, done: int, facts: dict[str, str]) -> None:
        if self.here == self.title and done >= self.done:
            raise SystemExit("crash")


def test_rollouts_since_the_checkpoint_are_written_again_word_for_word_and_not_judged_again(tmp_path: Path) -> None:
    """The server has changed its mind meanwhile: what it said first stands, as it does in an unbroken run."""
    with serving() as server:
        served = {"urls": [server.url]}
        judge = {"kind": "judge", "model": "yonder:judge", "backend": "sglang", "server": served, "guards": [],
                 "mass_floor": 0.0, "allow_unmeasured": True}  # fmt: skip
        rl = tree(tmp_path)["stages"][1] | {"policy": None, "steps": 6, "save_every": 2}
        rl["terms"] = [{"reward": name, "data": "train", "weight": 0.5} for name in ("correct", "judge")]
        rewards = {"correct": {"kind": "verifiable"}, "judge": judge}
        recipe = load_recipe(str(write(tmp_path, [rl], rewards=rewards)))
        with pytest.raises(SystemExit, match="crash"):
            run(recipe, progress=Crashing("rl", 4))
        log = tmp_path / "run/stages/rl/rollouts-00000002.jsonl.zst"
        before, asked = unpacked(log), len(server.asked)
        assert {json.loads(line)["step"] for line in before} == {4}
        assert all(json.loads(line)["scores"]["judge"]["details"]["probability"] for line in before)
        server.opposite = True
        with pytest.raises(SystemExit, match="crash"):
            run(recipe, progress=Crashing("rl", 4))
        assert unpacked(log) == before
        assert len(server.asked) == asked + 1  # the probe of the server, at its beginning
        run(recipe)
        assert len(server.asked) > asked + 2


# ----- the clock


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(every_stage(tmp_path))
    run(load_recipe(path, [f"output_dir={tmp_path}/whole"]))
    day, real, jumps = 86_400.0, time.time, itertools.count()
    monkeypatch.setattr("time.time", lambda: real() + day * (next(jumps) % 3 - 1))
    broken = load_recipe(path, [f"output_dir={tmp_path}/broken"])
    for title in ("warmup", "rl", "answers"):
        progress = Stopping(title, 1)
        with pytest.raises(Stopped):
            run(broken, progress=progress, stop=progress.stop)
    summary = run(broken)
    assert next(jumps) > 5
    assert all(stage["seconds"] >= 0 for stage in summary["stages"].values())
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")
