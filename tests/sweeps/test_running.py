"""Whole sweeps of a recipe that runs in a second: shared stages, resuming, failures, commands, processes."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slow.kills import outcome
from yonder.errors import RecipeError, RunsFailed, Stopped
from yonder.pipeline.running import run as run_pipeline
from yonder.recipe import load_recipe
from yonder.signals import StopRequest
from yonder.storage import write_json
from yonder.sweeps import running
from yonder.sweeps.command import Asked
from yonder.sweeps.making import make_run, make_sweep, make_table, refuse_failed
from yonder.sweeps.sharing import SharedStages
from yonder.sweeps.state import read_state, write_state
from yonder.training.progress import Silent

ROWS = ["short: longer.epochs=1", "long: longer.epochs=2"]


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        """Remember one line."""
        self.said.append(message)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    data = {"source": "word-problems", "options": {"count": 12, "seed": 1}}
    path = tmp_path / "small.yaml"
    tree: dict[str, Any] = {
        "threads": 1,
        "policy": {
            "model": {"family": "llama", "hidden_size": 16, "layers": 1, "heads": 2},
            "tokenizer": "yonder:tokenizer",
            "max_completion_tokens": 4,
            "device": "cpu",
        },
        "task": {"docstring": False, "numbers": "named"},
        "data": {"train": data},
        "benchmarks": {"again": {"data": "train"}},
        "sandbox": {"workers": 1},
        "stages": [
            {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1},
            {"name": "longer", "kind": "warmup", "data": "train", "policy": "stage:warmup", "epochs": 1},
            {"name": "end", "kind": "evaluate", "checkpoints": ["warmup", "longer"], "benchmarks": ["again"]},
        ],
    }
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def ask(recipe: str, folder: Path, rows: list[str] = ROWS, **more: Any) -> Asked:
    return Asked(recipe, rows=rows, checkpoint="longer", folder=folder, baseline="short", **more)


def sweep(asked: Asked, jobs: int = 1) -> tuple[dict[str, Any], list[str]]:
    heard = Heard()
    return make_sweep(asked.plan(), asked, jobs, StopRequest(), heard), heard.said


def stage(folder: Path, row: str, seed: int, name: str) -> dict[str, Any]:
    return json.loads((folder / row / f"seed-{seed}" / "stages" / name / "stage.json").read_text())


def test_a_sweep_shares_what_is_the_same_and_each_run_is_as_it_is_alone(recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    asked = ask(recipe, folder, seeds="0,1")
    found, said = sweep(asked)
    assert [run["status"] for row in found["rows"] for run in row["runs"]] == ["done"] * 4
    assert [run["folder"] for run in found["rows"][1]["runs"]] == ["long/seed-0", "long/seed-1"]
    assert "made_in" not in stage(folder, "short", 0, "warmup")
    for seed in (0, 1):
        assert stage(folder, "long", seed, "warmup")["made_in"] == str(folder / "short" / f"seed-{seed}")
        assert "made_in" not in stage(folder, "long", seed, "longer")
    assert stage(folder, "short", 0, "warmup")["hash"] != stage(folder, "short", 1, "warmup")["hash"]
    run = asked.plan().chosen("long/0")
    alone = load_recipe(run.recipe, [*run.overrides, f"output_dir={tmp_path / 'alone'}"])
    run_pipeline(alone, run.stages)
    assert outcome(run.folder) == outcome(alone.output_dir)
    cells = {cell["row"]: cell for cell in found["table"]["cells"]}
    assert set(cells) == {"short", "long"}
    assert cells["long"]["seeds"] == [0, 1] and cells["long"]["difference"] is not None
    assert json.loads((folder / "sweep.json").read_text())["table"] == found["table"]
    assert all((folder / name).is_file() for name in ("table.md", "table.csv", "table.tex", "report.html"))
    assert said[0] == "run 1 of 4, short, seed 0: begins"
    assert "2 left, about" in said[3]


def test_what_is_done_is_skipped_and_a_changed_row_is_made_again(recipe: str, tmp_path: Path) -> None:
    asked = ask(recipe, tmp_path / "out")
    first, _ = sweep(asked)
    before = (tmp_path / "out" / "short" / "seed-0" / "summary.json").stat().st_mtime_ns
    again, said = sweep(asked)
    assert said == ["run 1 of 2, short, seed 0: done before", "run 2 of 2, long, seed 0: done before"]
    assert again["table"] == first["table"]
    assert (tmp_path / "out" / "short" / "seed-0" / "summary.json").stat().st_mtime_ns == before
    _, said = sweep(ask(recipe, tmp_path / "out", ["short: longer.epochs=1", "long: longer.epochs=3"]))
    assert said[0] == "run 1 of 2, short, seed 0: done before"
    assert said[1] == "run 2 of 2, long, seed 0: begins"


def test_a_failed_run_is_recorded_the_rest_goes_on_and_it_is_tried_again(recipe: str, tmp_path: Path) -> None:
    rows = ["broken: data.train.source=FILE data.train.options={}", "short: longer.epochs=1"]
    rows[0] = rows[0].replace("FILE", str(tmp_path / "later.jsonl"))
    asked = ask(recipe, tmp_path / "out", rows)
    found, said = sweep(asked)
    broken, whole = (row["runs"][0] for row in found["rows"])
    assert (broken["status"], whole["status"]) == ("failed", "done")
    assert "later.jsonl" in broken["error"]
    assert any(line.startswith("run 1 of 2, broken, seed 0: FAILED: ") for line in said)
    with pytest.raises(RunsFailed, match=r"1 of 2 runs failed, first broken, seed 0: .*later.jsonl") as error:
        refuse_failed(found)
    assert error.value.exit_code == 1
    row = {"question": "Ann has 3 pens and buys 4 pens. How many pens does Ann have?", "answer": 7}
    row["solution"] = "def solution():\n    return 3 + 4\n"
    (tmp_path / "later.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(2)))
    mended, said = sweep(asked)
    assert "run 2 of 2, short, seed 0: done before" in said
    assert "later.jsonl" not in str(mended["rows"][0]["runs"][0]["error"])


def test_a_stop_leaves_the_rest_for_the_same_command(recipe: str, tmp_path: Path) -> None:
    asked, stop = ask(recipe, tmp_path / "out"), StopRequest()

    class StopsAtTheFirstEnd(Heard):
        def say(self, message: str) -> None:
            super().say(message)
            stop.asked = "done after" in message

    with pytest.raises(Stopped):
        make_sweep(asked.plan(), asked, 1, stop, StopsAtTheFirstEnd())
    found = make_table(asked.plan())
    assert [row["runs"][0]["status"] for row in found["rows"]] == ["done", "pending"]
    refuse_failed(found, collecting=True)
    _, said = sweep(asked)
    assert said[0].endswith("done before") and said[-1].startswith("run 2 of 2, long, seed 0: done after")


def test_each_run_by_itself_and_then_the_table(recipe: str, tmp_path: Path) -> None:
    asked = ask(recipe, tmp_path / "out")
    plan = asked.plan()
    for name in ("long/0", "short/0"):  # in any order
        make_run(plan, name, StopRequest(), Silent(), False)
    assert "made_in" in stage(tmp_path / "out", "short", 0, "warmup")
    assert not (tmp_path / "out" / "sweep.json").exists()
    found = make_table(plan)
    assert [row["runs"][0]["status"] for row in found["rows"]] == ["done", "done"]
    with pytest.raises(RecipeError, match="there is no such run"):
        make_run(plan, "long/1", StopRequest(), Silent(), False)


def test_a_killed_run_is_pending_and_one_at_work_is_running(recipe: str, tmp_path: Path) -> None:
    plan = ask(recipe, tmp_path / "out").plan()
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        write_state(run.folder, "running", time.time())
    record = read_state(plan.runs[0].folder)
    assert record["process"] == os.getpid()
    gone = plan.runs[0].folder / "sweep_run.json"
    gone.write_text(json.dumps(record | {"process": 2**22 + 1}))  # beyond any process number of Linux
    found = make_table(plan)
    assert [row["runs"][0]["status"] for row in found["rows"]] == ["pending", "running"]
    assert found["table"]["cells"] == []


def test_an_unfinished_stage_of_the_same_hash_gives_way_and_others_do_not_match(tmp_path: Path) -> None:
    def write(run: str, status: str, digest: str, text: str) -> Path:
        folder = tmp_path / run / "stages" / "warmup"
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({"status": status, "hash": digest}))
        (folder / "weights").write_text(text)
        return folder

    mine = write("mine", "unfinished", "aa", "mine")
    write("other", "done", "bb", "other")
    write("begun", "unfinished", "aa", "begun")
    runs = tuple(tmp_path / name for name in ("other", "begun", "mine"))
    shelf = SharedStages(runs, tmp_path / "locks", StopRequest(), print)
    assert not shelf.take("warmup", "aa", mine)
    assert (mine / "weights").read_text() == "mine"
    theirs = write("same", "done", "aa", "theirs")
    shelf = SharedStages((*runs, tmp_path / "same"), tmp_path / "locks", StopRequest(), print)
    assert shelf.take("warmup", "aa", mine)
    assert (mine / "weights").read_text() == "theirs"
    assert (mine / "weights").samefile(theirs / "weights")  # linked
    assert "made_in" not in json.loads((theirs / "stage.json").read_text())


def test_one_process_at_a_time_makes_a_stage_and_waiting_can_be_stopped(tmp_path: Path) -> None:
    stop, heard = StopRequest(), Heard()
    shelf = SharedStages((), tmp_path / "locks", stop, heard.say)
    with shelf.turn("warmup", "aa"):
        with shelf.turn("warmup", "bb"):
            assert heard.said == []
        stop.asked = True
        with pytest.raises(Stopped), shelf.turn("warmup", "aa"):
            pass
    assert heard.said == ["warmup: another process makes it; waiting"]
    with shelf.turn("warmup", "aa"):
        pass


@pytest.mark.slow
def test_several_processes_make_the_same_as_one(recipe: str, tmp_path: Path) -> None:
    one, two = ask(recipe, tmp_path / "one", seeds="0,1"), ask(recipe, tmp_path / "two", seeds="0,1")
    first, _ = sweep(one)
    second, said = sweep(two, jobs=2)
    assert second["table"] == first["table"]
    for run in one.plan().runs:
        assert outcome(run.folder) == outcome(tmp_path / "two" / run.folder.relative_to(tmp_path / "one"))
    assert sum("begins" in line for line in said) == 4


def test_a_run_of_another_machine_is_left_alone_as_long_as_it_writes(recipe: str, tmp_path: Path) -> None:
    asked = ask(recipe, tmp_path / "out", seeds="0")
    found, _ = sweep(asked)
    run = asked.plan().runs[0]
    write_json(run.folder / "sweep_run.json", read_state(run.folder) | {"status": "running", "machine": "container-1"})
    found, said = sweep(asked)
    assert "runs on another machine (container-1), which wrote last" in "\n".join(said)
    assert f"--run {run.name} goes on with it now" in "\n".join(said)
    with pytest.raises(RunsFailed, match=r"1 of \d runs are not done, first .*: running; the table is without them"):
        refuse_failed(found)
    refuse_failed(found, collecting=True)
    for file in run.folder.rglob("*"):
        os.utime(file, (time.time() - 1000,) * 2)
    found, said = sweep(asked)
    assert "another machine" not in "\n".join(said)
    refuse_failed(found)


def test_threads_of_runs_side_by_side_do_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-c", "import os; print(os.environ['OMP_WAIT_POLICY'])"]
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    running._start(words, tmp_path).wait(60)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    running._start(words, tmp_path).wait(60)
    assert (tmp_path / running.LOG).read_text().split() == ["passive", "active"]
