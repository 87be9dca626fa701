"""Reading run directories: whole, partial, damaged, and not there."""

import json
import random
from pathlib import Path

import pytest

from tests.reporting.fixture import build_run, rollout_rows, write, write_frames, write_json
from yonder.errors import StorageError
from yonder.reporting.records import Accuracy, read_lines, read_run
from yonder.reporting.rollout_sample import sample_rollouts
from yonder.reporting.verdict import notices


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "one", steps=24)


def test_a_whole_run(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert [stage.name for stage in run.stages] == [
        "warm-up",
        "judge",
        "check",
        "distill-labeled",
        "distill-judge",
        "table",
    ]
    assert [len(stage.metrics) for stage in run.stages] == [120, 0, 0, 12, 12, 0]
    assert run.stages[1].status == "skipped" and run.stages[1].seconds == 233.5
    assert run.stages[2].judge_check is not None and run.stages[3].judge_check is None
    assert [len(stage.rollout_files) for stage in run.stages] == [0, 0, 0, 3, 3, 0]
    assert len(run.notes) == 3 and run.problems == ()
    best = run.results["distill-judge"]["gsm8k"]
    assert best.greedy.value == 0.3313 and best.greedy.n == 1319 and best.votes == 8
    assert best.vote is not None and best.vote.value == 0.3685
    assert (run.results["warm-up"]["svamp"].categories or {})["addition"] == Accuracy(0.38, None, None, 333)


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_no_run_directory_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError) as caught:
        read_run(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_killed_run_without_summary(tmp_path: Path) -> None:
    """Half-written last line, no stage.json, a damaged card: everything else is still read, and each is named."""
    write(tmp_path / "card.json", '{"versions": {"torch"')
    write(tmp_path / "stages/rl/metrics.jsonl", '{"step": 2, "lr": NaN}\n{"step": 4, "lr": 1e-6}\n{"step": 6, "l')
    write_json(
        tmp_path / "stages/test/stage.json", {"kind": "evaluate", "result": {"rl": {"gsm8k": {"accuracy": 0.5}}}}
    )
    run = read_run(tmp_path)
    stage = next(stage for stage in run.stages if stage.name == "rl")
    assert (stage.kind, stage.status, stage.seconds) == ("unknown", "unfinished", None)
    assert stage.metrics == ({"step": 2, "lr": None}, {"step": 4, "lr": 1e-6})
    assert run.results["rl"]["gsm8k"].greedy == Accuracy(0.5, None, None, None)
    assert run.problems == (
        "card.json is not whole JSON and was left out.",
        "stages/rl/metrics.jsonl: 1 unreadable line left out.",
    )


def test_an_unfinished_run_has_the_title_of_its_recipe(tmp_path: Path) -> None:
    write(tmp_path / "recipe.yaml", "title: Judge and verifier\nseed: 1\n")
    assert read_run(tmp_path).title == "Judge and verifier"
    write(tmp_path / "recipe.yaml", "title: [\n")
    assert read_run(tmp_path).title == tmp_path.name
    write(tmp_path / "recipe.yaml", "seed: 1\n")
    assert read_run(tmp_path).title == tmp_path.name


def test_what_ended_a_stage_is_told(tmp_path: Path) -> None:
    ended = {"by": "TrainingError", "said": "stage check: 0.61 is below the floor of 0.7."}
    write_json(tmp_path / "stages/check/stage.json", {"kind": "check-judge", "status": "unfinished", "ended": ended})
    stopped = {"status": "unfinished", "ended": {"by": "Stopped", "said": "stopped"}}
    write_json(tmp_path / "stages/rl/stage.json", stopped)
    found = {notice.where: notice for notice in notices([read_run(tmp_path)])}
    assert found["check"].level == "stop" and found["check"].message.endswith(f"It ended with: {ended['said']}")
    assert found["rl"].level == "warn"


@pytest.mark.parametrize(
    "summary",
    [
        "[]",
        '{"stages": 3, "results": {"a": {"b": 7, "c": {"accuracy": null}, "d": {"accuracy": "high"}}}}',
        '{"stages": {"a": null}, "notes": 5, "results": null}',
    ],
)
def test_a_summary_of_the_wrong_shape_is_not_fatal(tmp_path: Path, summary: str) -> None:
    write(tmp_path / "summary.json", summary)
    assert read_run(tmp_path).results == {}


def test_rollout_logs_are_read_across_frames_and_cuts(tmp_path: Path) -> None:
    """A recorder appends one zstd frame an iteration; a killed one leaves half a frame at the end."""
    import random

    rows = rollout_rows(2, 10, random.Random(0), judged=True, each=12)  # 24 rows, 8 a frame
    path = tmp_path / "rollouts-00000000.jsonl.zst"
    write_frames(path, rows)
    problems: list[str] = []
    assert [row["prompt_id"] for _, row in read_lines(path, problems)] == [row["prompt_id"] for row in rows]
    assert problems == []
    path.write_bytes(path.read_bytes()[:-40])
    assert len(list(read_lines(path, problems))) >= 16
    path.write_bytes(b"not zstd at all")
    assert list(read_lines(path, problems)) == []
    assert "ends early" in problems[-1]


def test_lone_surrogates_do_not_stop_the_page(tmp_path: Path) -> None:
    write(tmp_path / "summary.json", json.dumps({"title": "half \ud83d pair"}))
    assert read_run(tmp_path).title.encode("utf-8") == b"half ? pair"


def test_what_an_earlier_configuration_left_is_no_stage(run_dir: Path) -> None:
    (run_dir / "stages" / ".replaced" / "warm-up-20260101-000000").mkdir(parents=True)
    assert ".replaced" not in [stage.name for stage in read_run(run_dir).stages]


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "1e999", "1E+400", "1" * 400 + ".0"])
def test_numbers_that_are_not_finite_are_not_measured(tmp_path: Path, odd: str) -> None:
    write(tmp_path / "metrics.jsonl", f'{{"a": {odd}, "b": 1e-200, "c": "\\ud83d\\ude00 \\ud83d"}}\n')
    assert list(read_lines(tmp_path / "metrics.jsonl", [])) == [(0, {"a": None, "b": 1e-200, "c": "😀 ?"})]


def test_only_wanted_lines_are_read(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", '{"a": 1}\nno JSON\n{"a": 2}\n')
    problems: list[str] = []
    assert list(read_lines(tmp_path / "metrics.jsonl", problems, {0, 2}.__contains__)) == [(0, {"a": 1}), (2, {"a": 2})]
    assert problems == []


def test_logs_that_did_not_change_are_not_read_again(run_dir: Path) -> None:
    run, known = read_run(run_dir), {}
    first, _ = sample_rollouts([run], known=known)
    assert len(known) == sum(len(stage.rollout_files) for stage in run.stages)
    before = dict(known)
    newest = run.stages[-2].rollout_files[-1]
    write_frames(newest, rollout_rows(9, 60, random.Random(1), judged=True))
    second, _ = sample_rollouts([run], known=known)
    changed = [key for key in known if key not in before]
    assert [key[2] for key in changed] == [newest] and len(known) == len(before)
    assert all(known[key] is before[key] for key in known if key in before)
    assert second == sample_rollouts([run])[0] != first
