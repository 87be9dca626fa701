"""What a row of metrics and the progress line say of terms."""

from __future__ import annotations

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
