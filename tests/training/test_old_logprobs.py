"""Where the sampler's log-probs serve as the old ones: the trainer's forward is saved, unless ratios must be exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import yonder.training.learner
from tests.training.tools import tiny_distiller
from yonder.training.ahead import RolloutSource
from yonder.training.batch import Batch
from yonder.training.distill import Distiller
from yonder.training.learner import Learner


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each batch that was prepared, whether the sampler's log-probs are its old ones, to the bit."""
    found: list[bool] = []
    prepare = Learner.prepare

    def watched(self: Learner, *arguments: Any) -> Batch:
        batch = prepare(self, *arguments)
        found.append(torch.equal(batch.old_logprobs, batch.rollout_logprobs))
        return batch

    monkeypatch.setattr(Learner, "prepare", watched)
    return found


def capped(made: Distiller) -> Distiller:
    """With importance weights, which need the trainer's own log-probs."""
    made.learner.loss = replace(made.learner.loss, importance_cap=2.0)
    return made


def test_those_of_a_sampler_that_agrees_are_taken_after_the_first_step_and_after_a_resume(
    tmp_path: Path, taken: list[bool]
) -> None:
    tiny_distiller(tmp_path, "grpo", 4, epochs=1, save_every=4).run()
    assert taken == [False, True, True, True]
    resumed = tiny_distiller(tmp_path, "grpo", 6, epochs=1)
    resumed.run()
    assert taken[4:] == [True, True]  # it was in the checkpoint
    assert 0 < resumed.learner.rollout_gap_nats < 1e-5


@pytest.mark.parametrize("reason", ["two epochs", "a value head", "one step off", "importance weights"])
def test_exact_ratios_need_the_trainers_own(tmp_path: Path, taken: list[bool], reason: str) -> None:
    made = tiny_distiller(tmp_path, "ppo" if "head" in reason else "grpo", 4, epochs=2 if "two" in reason else 1)
    if "off" in reason:
        made.plan = made.learner.plan = replace(made.plan, one_step_off=True)
        made.source = RolloutSource(made.draw, made.streams, made.sampler, True)
    if "importance" in reason:
        capped(made)
    made.run()
    assert len(taken) > 1
    assert not any(taken)


def test_those_of_a_sampler_that_is_a_little_apart_are_not_taken(
    tmp_path: Path, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yonder.training.learner, "rollout_gap", lambda batch: 2e-3)
    tiny_distiller(tmp_path, "grpo", 3, epochs=1).run()
    assert not any(taken)
