"""What a run writes: no step twice, no half line, no number that JSON does not have."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import zstandard

from yonder.errors import StorageError
from yonder.schema import Completion, JudgeScore, Prompt, Rollout, Score, Trip
from yonder.training.records import Recorder, spread


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    lines = (folder / name).read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def logged(path: Path) -> list[dict]:
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes()), read_across_frames=True).read()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.decode().splitlines()]


def rollout(number: int) -> Rollout:
    prompt = Prompt(id=f"p{number}", question=f"q{number}", text="t", prefix="so ", answer="4")
    return Rollout(prompt, (5,), Completion((6, 7), (-1.0, -1.0), f"x{number}", True))


def test_begin_drops_what_lies_beyond_the_checkpoint_and_a_half_written_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for step in (2, 4, 6, 8):
        recorder.metrics({"step": step, "loss": step / 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    Recorder(tmp_path).begin(4)
    assert rows(tmp_path) == [{"step": 2, "loss": 1.0}, {"step": 4, "loss": 2.0}]
    recorder.metrics({"step": 6, "loss": 9.0})
    assert [row["step"] for row in rows(tmp_path)] == [2, 4, 6]


def test_events_are_written_and_dropped_as_metrics_are(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    row = {"step": 2, "question": "q", "scores": {"judge": {"value": float("nan")}}}
    for step in (2, 4):
        recorder.event(step, "warn", Trip("gap", "judge", "a", "it grew", {"now": float("inf")}, [row]))
    Recorder(tmp_path).begin(2)
    (event,) = rows(tmp_path, "events.jsonl")
    assert event == {
        "step": 2, "action": "warn", "rule": "gap", "reward": "judge", "stream": "a", "message": "it grew",
        "figures": {"now": None}, "rollouts": [row | {"scores": {"judge": {"value": None}}}],
    }  # fmt: skip


def test_begin_drops_rollouts_of_lost_steps(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 8)
    recorder.begin(0)
    scores = {("word", "a"): [Score(0.5)]}
    recorder.rollouts(2, {"a": [rollout(0)]}, scores)
    recorder.saved(2)
    recorder.rollouts(4, {"a": [rollout(1)]}, scores)
    recorder.rollouts(6, {"a": [rollout(2)]}, scores)  # a second frame in one file
    assert [row["step"] for row in logged(tmp_path / "rollouts-00000002.jsonl.zst")] == [4, 6]
    Recorder(tmp_path, 8).begin(2)
    assert [path.name for path in sorted(tmp_path.glob("rollouts-*"))] == ["rollouts-00000000.jsonl.zst"]
    assert [row["step"] for row in logged(tmp_path / "rollouts-00000000.jsonl.zst")] == [2]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 8)
    recorder.metrics({"step": 1, "loss": float("nan"), "lr": float("inf"), "n": 3, "alarm": "none"})
    assert rows(tmp_path) == [{"step": 1, "loss": None, "lr": None, "n": 3, "alarm": "none"}]
    facts = {"logit_gap": float("nan"), "mass": 0.0}
    recorder.rollouts(1, {"a": [rollout(0)]}, {("judge", "a"): [JudgeScore(None, "no mass", details=facts)]})
    (row,) = logged(tmp_path / "rollouts-00000000.jsonl.zst")
    assert row["scores"]["judge"] == {"value": None, "reason": "no mass", "details": {"logit_gap": None, "mass": 0.0}}


def test_a_rollout_is_logged_with_every_score_of_its_stream(tmp_path: Path) -> None:
    scores = {
        ("verifiable", "a"): [Score(1.0, "returned 4", {"correct": True}), Score(0.0, "timeout")],
        ("judge", "a"): [Score(0.75), Score(None, "no mass")],
        ("judge", "b"): [Score(0.25)],
    }
    Recorder(tmp_path, 8).rollouts(3, {"a": [rollout(0), rollout(1)], "b": [rollout(2)]}, scores)
    found = logged(tmp_path / "rollouts-00000000.jsonl.zst")
    assert found[0] == {
        "step": 3, "stream": "a", "prompt_id": "p0", "question": "q0", "response": "so x0", "completion": "x0",
        "answer": "4", "finished": True, "tokens": 2,
        "scores": {
            "verifiable": {"value": 1.0, "reason": "returned 4", "details": {"correct": True}},
            "judge": {"value": 0.75, "reason": "", "details": {}},
        },
    }  # fmt: skip
    assert found[1]["scores"]["judge"] == {"value": None, "reason": "no mass", "details": {}}
    assert found[2]["scores"] == {"judge": {"value": 0.25, "reason": "", "details": {}}}


def test_a_sample_is_spread_over_the_batch() -> None:
    assert list(spread(3, 5)) == [0, 1, 2]
    assert list(spread(10, 4)) == [0, 2, 5, 7]  # 0, 10/4, 20/4, 30/4
    assert list(spread(10, 0)) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"metrics\.jsonl cannot be written"):
        Recorder(tmp_path / "gone").metrics({"step": 1})
