"""What a row of metrics and the progress line say of terms."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.test_variants import rows, taught
from tests.training.tools import WordReward, tiny_distiller
from yonder.schema import Completion, Prompt, Rollout, Score
from yonder.training.figures import facts, iteration_metrics
from yonder.training.rollout import Term

ROLLOUTS = {"s": [Rollout(Prompt(str(i), "q", "t"), (), Completion((1,), (0.0,), str(i), True)) for i in range(4)]}


def test_the_share_that_is_right_stands_beside_a_mean_with_partial_credit() -> None:
    term = Term("correct", "s", 1.0, WordReward())
    scores = [Score(1.0, "", {"correct": True}), Score(0.1, "", {"correct": False}), Score(0.1, "", {"correct": False})]
    metrics = iteration_metrics(ROLLOUTS, {("correct", "s"): [*scores, Score(None, "no label")]}, [term])
    assert metrics["terms/correct@s/reward_mean"] == pytest.approx(0.4)
    assert metrics["terms/correct@s/correct"] == 1 / 3
    assert facts(metrics | {"tokens_per_s": 9.0}, [term]) == {"correct@s": "0.400 (33% right)", "tokens/s": "9"}


def test_a_judge_says_nothing_of_right_and_nothing_scored_is_said() -> None:
    term = Term("judge", "s", 1.0, WordReward())
    metrics = iteration_metrics(ROLLOUTS, {("judge", "s"): [Score(0.5)] * 4}, [term])
    assert "terms/judge@s/correct" not in metrics
    assert facts(metrics | {"tokens_per_s": 9.0}, [term])["judge@s"] == "0.500"
    metrics = iteration_metrics(ROLLOUTS, {("judge", "s"): [Score(None, "down")] * 4}, [term])
    assert facts(metrics | {"tokens_per_s": 9.0}, [term])["judge@s"] == "unscored"


def test_the_distance_to_a_teacher_is_shown_and_no_kl_without_a_reference(tmp_path: Path) -> None:
    made = taught(tmp_path / "a", 2, [("teacher", 1.0)])
    made.run()
    row = rows(tmp_path / "a")[-1]
    assert facts(row, made.terms)["teacher@s0"] == f"{row['terms/teacher@s0/reverse_kl']:.3f} nats"
    assert "policy/kl_nats" in row
    alone = tiny_distiller(tmp_path / "b", "grpo", 2)
    alone.learner = replace(alone.learner, reference=None)
    alone.run()
    row = rows(tmp_path / "b")[-1]
    assert "policy/kl_nats" not in row and "KL" not in facts(row, alone.terms)


def test_the_seconds_of_a_row_are_all_there(tmp_path: Path) -> None:
    made = tiny_distiller(tmp_path, "grpo", 16)
    began = time.perf_counter()
    made.run()
    whole = time.perf_counter() - began
    found = rows(tmp_path)
    parts = [{key: value for key, value in row.items() if key.startswith("time/")} for row in found]
    names = {"generate", "reference", "update", "other", "score/word"}
    assert {f"time/{name}_s" for name in names} <= set(parts[0])
    assert [i for i, part in enumerate(parts) if "time/save_s" in part] == [2, 4, 6]  # told in the row after
    told = sum(sum(part.values()) for part in parts)
    assert 0.5 * whole < told <= whole  # the rest: what resumes, and the last checkpoint
    assert all(min(part.values()) >= 0 for part in parts)
