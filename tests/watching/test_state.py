"""Where a run stands, as the terminal shows it, and the logs that are read from where the last look ended."""

import io
import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rich.console import Console

from tests.reporting.fixture import SECRET, build_run, rollout, write, write_frames, write_json, write_lines
from yonder.errors import StorageError
from yonder.storage import only_one
from yonder.watching.command import runs_below, summary
from yonder.watching.folders import Found
from yonder.watching.live import overall, told
from yonder.watching.screen import age, line, screen, spark
from yonder.watching.state import RunState, RunWatch, plain
from yonder.watching.tail import Tail
from yonder.watching.terminal import Watches, print_lines


def begun_run(path: Path) -> Path:
    """A run in its second stage: 10 steps of 100, one each 3 s; the judge likes a wrong response."""
    stages = [
        {"name": "warmup", "kind": "warmup", "epochs": 4},
        {"name": "rl", "kind": "distill", "steps": 100, "epochs": 1},
        {"name": "table", "kind": "evaluate"},
    ]
    write_json(path / "recipe.yaml", {"title": "Mine", "stages": stages})  # JSON is YAML
    write_json(path / "card.json", {"rewards": {"judge": {"delta": 0.8}}})
    write_json(path / "stages/warmup/stage.json", {"kind": "warmup", "status": "done", "seconds": 90})
    write_lines(path / "stages/warmup/metrics.jsonl", [{"step": 4, "loss": 0.5, "development/accuracy": 0.25}])
    write_json(path / "stages/rl/stage.json", {"kind": "distill", "status": "unfinished", "seconds": 0.0})
    write_lines(path / "stages/rl/metrics.jsonl", [metrics(step) for step in range(1, 11)])
    return path


def metrics(step: int) -> dict[str, Any]:
    pause = 1000.0 if step > 5 else 0.0  # the run was stopped for a while
    return {
        "step": step,
        "time_s": 100 + 3.0 * step + pause,
        "terms/judge@unlabeled/reward_mean": step / 100,
        "terms/judge@unlabeled/scored": 0.5 if step == 10 else 1.0,
        "terms/right@labeled/scored": 1.0,
        "monitor/judge/accuracy": 0.875,
        "policy/kl_nats": None if step == 3 else 0.125,
        "lr": 1.0,
    }


def watched(path: Path) -> tuple[RunWatch, RunState]:
    watch = RunWatch(Found(path, path.name))
    return watch, watch.look()


def drawn(states: list[RunState], width: int, ascii_only: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
    console.print(screen(states, "waiting", width, ascii_only))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_stages_steps_and_time_left(tmp_path: Path) -> None:
    _, state = watched(begun_run(tmp_path / "one"))
    assert (state.title, state.state) == ("Mine", "running")
    assert [(s.name, s.status, s.step, s.steps) for s in state.stages] == [
        ("warmup", "done", 4, 4),
        ("rl", "running", 10, 100),
        ("table", "waiting", None, None),
    ]
    assert state.current is state.stages[1] and state.current.left_s == pytest.approx(90 * 3.0)  # the pause is no pace
    assert [(f.name, len(f.values), f.values[-1]) for f in state.figures] == [
        ("reward judge@unlabeled", 10, 0.1),
        ("KL, nats", 9, 0.125),  # null is not zero
        ("agrees with the verifier, judge", 10, 0.875),
        ("scored judge@unlabeled", 10, 0.5),  # that of the other term, which is whole, is left out
    ]
    assert line(state).startswith("rl: step 10 of 100, about 4 min left  reward judge@unlabeled 0.1  KL, nats 0.125")


def test_what_is_new_is_added_and_what_is_rewritten_replaces(tmp_path: Path) -> None:
    watch, _ = watched(begun_run(tmp_path / "one"))
    log = tmp_path / "one/stages/rl/metrics.jsonl"
    with log.open("a") as file:
        file.write(json.dumps(metrics(11)) + "\n" + '{"step": 12, "policy/kl_n')
    state = watch.look()
    assert state.current is not None and state.current.step == 11
    assert len(state.figures[0].values) == 11
    with log.open("a") as file:
        file.write('ats": 7.5}\n')
    assert watch.look().figures[1].values[-1] == 7.5
    aside = log.with_name("aside")  # as Recorder.begin: a resumed run drops what came after its checkpoint
    write_lines(aside, [metrics(step) for step in range(1, 9)])
    aside.replace(log)
    state = watch.look()
    assert state.current is not None and state.current.step == 8
    assert len(state.figures[0].values) == 8


def test_states_of_a_run(tmp_path: Path) -> None:
    path = begun_run(tmp_path / "one")
    watch, _ = watched(path)
    later = time.time() + 3600
    assert watch.look(later).state == "quiet"
    assert [stage.status for stage in watch.look(later).stages] == ["done", "unfinished", "waiting"]
    assert "(nothing was written since" in line(watch.look(later))
    if Path("/proc/locks").exists():
        with only_one(path):
            assert watch.look(later).state == "running"
    record = {
        "kind": "distill",
        "status": "done",
        "seconds": 5,
        "result": {"results": {"rl": {"dev": {"accuracy": 0.5}}}},
    }
    write_json(path / "stages/rl/stage.json", record)
    write_json(path / "summary.json", {})
    done = watch.look(later)
    assert done.state == "done" and line(done).startswith("done, ") and done.results == (("rl", "dev", 0.5),)
    (path / ".lock").unlink(missing_ok=True)  # as where nothing tells whose it was
    os.utime(path / "recipe.yaml", (later, later))  # the command was given once more, and has begun
    assert watch.look(later).state == "running"


def test_trips_and_what_the_judge_liked(tmp_path: Path) -> None:
    path = begun_run(tmp_path / "one")
    trip = {"step": 7, "action": "warn", "message": f"judge\x1b[2J likes too much; key {SECRET}"}
    write_lines(path / "stages/rl/events.jsonl", [trip])
    rng = random.Random(0)
    rows = [rollout(2, "labeled", i, False, said, rng) for i, said in enumerate((0.9, 0.7, 0.85, 0.79))]
    write_frames(path / "stages/rl/rollouts-00000000.jsonl.zst", rows, frame=1)
    watch, state = watched(path)
    assert state.trips == ("rl, step 7: warn: judge [2J likes too much; key [redacted]",)
    assert state.liked_wrongly is not None and state.liked_wrongly[0] == 0.85  # the last from delta 0.8 on
    assert state.liked_wrongly[1] == plain(rows[2]["question"]) and "⏎" in state.liked_wrongly[2]
    write_frames(path / "stages/rl/rollouts-00000008.jsonl.zst", [rollout(9, "labeled", 0, True, 0.99, rng)])
    assert watch.look().liked_wrongly == state.liked_wrongly  # a right one is none
    write_frames(path / "stages/rl/rollouts-00000010.jsonl.zst", [rollout(11, "labeled", 0, False, 1.0, rng)])
    found = watch.look().liked_wrongly
    assert found is not None and found[0] == 1.0


def test_frames_that_are_not_whole_wait(tmp_path: Path) -> None:
    log = tmp_path / "rollouts-00000000.jsonl.zst"
    frames = [
        zstandard.ZstdCompressor().compress(f'{{"a": {i}, "x": "{os.urandom(3000).hex()}"}}\n'.encode())
        for i in range(5)
    ]
    tail, seen = Tail(log), list[int]()
    assert tail.read() == ([], False)
    data = b"".join(frames)
    for end in (1, len(frames[0]), len(frames[0]) + 9, len(data) - 1, len(data)):
        log.write_bytes(data[:end])
        seen.append(len(tail.read()[0]))
    assert seen == [0, 1, 0, 3, 1]
    log.write_bytes(b"no frame at all")
    assert tail.read() == ([], True)
    log.unlink()
    assert tail.read()[0] == []


def test_the_screen_obeys_nobody_and_fits(tmp_path: Path) -> None:
    path = build_run(tmp_path / "one", steps=30)
    write_json(path / "stages/distill-judge/stage.json", {"kind": "distill", "status": "unfinished"})
    write_json(path / "recipe.yaml", {"title": "[bold]T\x1b]0;owned\x07\x9b2J"})
    _, state = watched(path)
    for width in (100, 40):
        text = drawn([state], width)
        assert "\x1b]0" not in text and "\x07" not in text and "\x9b" not in text and SECRET not in text
        assert "[bold]T" in text and "distill-judge" in text
        assert ("▁" in text) == (width == 100)
    assert drawn([state], 100, ascii_only=True).isascii() is False  # questions have what letters they have
    assert "▁" not in drawn([state], 100, ascii_only=True) and "✓" not in drawn([state], 100, ascii_only=True)
    rows = drawn([state, state], 60).splitlines()
    assert sum("one" in row for row in rows) == 2
    assert "waiting" in drawn([], 60)


def test_small_charts() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert spark([0, 2, 7, 7], 2) == "▁█"  # means 1 and 7
    assert spark([3, 3], 8) == "▄▄" and spark([], 8) == ""


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (300, "5 min"), (7500, "2 h 05 min"), (260_000, "3 days")])
def test_age(seconds: float, text: str) -> None:
    assert age(1000.0, 1000.0 + seconds) == text
    assert age(0.0) == ""


def test_lines_for_a_pipe_end_with_the_run(tmp_path: Path) -> None:
    path = tmp_path / "one"
    said: list[str] = []
    looks = iter(range(100))

    def say(text: str) -> None:
        said.append(text)
        step = next(looks)
        if step == 0:
            begun_run(path)
        elif step == 1:
            write_lines(path / "stages/rl/events.jsonl", [{"step": 9, "action": "warn", "message": "M"}])
        elif step == 2:
            write_json(path / "stages/rl/stage.json", {"kind": "distill", "status": "done", "seconds": 3})
            write_json(path / "summary.json", {})

    print_lines([path], say, every_s=0.0)
    assert said[0] == f"waiting for a run in {path}"
    assert said[1].startswith("rl: step 10 of 100") and said[2] == "rl, step 9: warn: M"
    assert said[-1].startswith("done, ") and len(said) <= 5


def test_a_run_whose_process_is_gone_is_quiet_at_once(tmp_path: Path) -> None:
    path = begun_run(tmp_path / "one")
    watch, _ = watched(path)
    assert watch.look().state == "running"  # nothing says whose it was, and its files are new
    if Path("/proc/locks").exists():
        with only_one(path):
            assert watch.look().state == "running"
        assert watch.look().state == "quiet"
        (path / ".lock").write_text("another-machine\n")
        assert watch.look().state == "running"


def test_a_sweep_is_not_done_between_two_of_its_runs(tmp_path: Path) -> None:
    runs = [{"seed": seed, "folder": f"row/seed-{seed}", "status": "pending"} for seed in (0, 1)]
    write_json(tmp_path / "sweep.json", {"rows": [{"name": "row", "runs": runs}]})
    build_run(tmp_path / "row/seed-0", steps=6)
    watches = Watches([tmp_path])
    states = watches.look()
    assert ([state.state for state in states], watches.coming) == (["done"], 1)
    assert overall(states, watches.coming) == "running"  # the last file is new
    assert told(states, [tmp_path], watches.coming) == "2 runs: 1 done, 1 not begun"
    assert overall([replace(states[0], written=1.0)], watches.coming) == "quiet"
    build_run(tmp_path / "row/seed-1", steps=6)
    states = watches.look()
    assert (overall(states, watches.coming), watches.coming) == ("done", 0)


def test_a_line_of_a_run_that_is_done_has_its_results(tmp_path: Path) -> None:
    path = build_run(tmp_path / "one", steps=6)
    results = {"warmup": {"held": {"accuracy": 0.25}}, "rl": {"held": {"accuracy": 0.5}}}
    write_json(path / "stages/table/stage.json", {"kind": "evaluate", "status": "done", "result": {"results": results}})
    _, state = watched(path)
    assert line(state).startswith("done, ") and line(state).endswith("  warmup on held 25.0 %  rl on held 50.0 %")


def test_runs_below_a_folder_as_data(tmp_path: Path) -> None:
    begun_run(tmp_path / "a/one")
    done = build_run(tmp_path / "two", steps=6)
    (first, second) = sorted(map(summary, runs_below(tmp_path)), key=lambda row: row["run"])
    assert (first["title"], first["state"], first["stage"], first["step"], first["steps"]) == (
        "Mine",
        "running",
        "rl",
        10,
        100,
    )
    assert second["run"] == str(done) and second["state"] == "done"
    with pytest.raises(StorageError, match=r"there is no folder .*nowhere"):
        runs_below(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["", "no: [yaml", "- a list", '{"stages": 3}', '{"stages": [{"name": {}}, 4]}'])
def test_damaged_files_are_not_fatal(tmp_path: Path, damage: str) -> None:
    path = begun_run(tmp_path / "one")
    write(path / "recipe.yaml", damage)
    write(path / "stages/rl/events.jsonl", '[]\n{"step": {}}\nno\n')
    write(path / "stages/warmup/stage.json", damage)
    write(path / "stages/rl/rollouts-00000000.jsonl.zst", "no frame")
    _, state = watched(path)
    assert "rl" in [stage.name for stage in state.stages]
    assert drawn([state], 80)
