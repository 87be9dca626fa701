"""Rollouts written one iteration ahead: how old they are, the same beside the trainer and in its turn, resumable."""

import threading
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_learning import rewards, weights
from tests.training.test_rollback import hacked, lines
from tests.training.tools import tiny_distiller
from yonder.errors import ModelError, RolloutError
from yonder.generation.sampler import PolicySampler
from yonder.protocols import Finished
from yonder.schema import Prompt, Rollout
from yonder.training.ahead import RolloutSource
from yonder.training.batch import Batch
from yonder.training.distill import Distiller
from yonder.training.learner import Learner


class Beside:
    """An engine with weights of its own. It notes which thread wrote."""

    beside = True

    def __init__(self, inner: PolicySampler) -> None:
        self.live = inner.policy.model
        self.inner = deepcopy(inner)
        self.renewed = 0
        self.threads: list[str] = []

    def refresh(self, step: int) -> None:
        self.renewed += 1
        self.inner.policy.model.load_state_dict(self.live.state_dict())

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        self.threads.append(threading.current_thread().name)
        return self.inner.sample(prompts, samples, temperature, seed, top_p, top_k, finished=finished)


def ahead(folder: Path, algorithm: str = "grpo", steps: int = 12, beside: bool = False, **plan: object) -> Distiller:
    made = tiny_distiller(folder, algorithm, steps, one_step_off=True, **plan)
    made.learner.loss = replace(made.learner.loss, importance_cap=2.0)
    if beside:
        assert isinstance(made.sampler, PolicySampler)
        made.sampler = Beside(made.sampler)
        made.source = RolloutSource(made.draw, made.streams, made.sampler, True)
    return made


def test_all_but_the_first_rollouts_are_an_iteration_old(tmp_path: Path) -> None:
    made = ahead(tmp_path, beside=True)
    made.run()
    assert [row["rollouts/staleness_steps"] for row in lines(tmp_path, "metrics.jsonl")] == [0, 2, 2, 2, 2, 2]
    engine = made.sampler
    assert isinstance(engine, Beside)
    assert engine.renewed == 6  # nothing is written beyond the last iteration
    assert engine.threads[0] == "MainThread" and "MainThread" not in engine.threads[1:]


def test_beside_the_trainer_or_in_its_turn_the_numbers_are_the_same(tmp_path: Path) -> None:
    runs = [ahead(tmp_path / str(beside), beside=beside) for beside in (False, True)]
    for made in runs:
        made.run()
    first, second = weights(runs[0]), weights(runs[1])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rewards(tmp_path / "False") == rewards(tmp_path / "True")


def test_the_weights_that_correct_it_are_those_of_an_older_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[float] = []
    prepare = Learner.prepare

    def watched(self: Learner, *arguments: Any) -> Batch:
        batch = prepare(self, *arguments)
        apart.append(float((batch.old_logprobs - batch.rollout_logprobs).abs().max()))
        return batch

    monkeypatch.setattr(Learner, "prepare", watched)
    ahead(tmp_path, steps=4).run()
    assert apart[0] < 1e-5
    assert apart[1] > 0.01


@pytest.mark.parametrize(("algorithm", "steps"), [("grpo", 80), ("ppo", 160)])
def test_learns_the_trivial_task(tmp_path: Path, algorithm: str, steps: int) -> None:
    ahead(tmp_path, algorithm, steps, save_every=steps).run()
    found = rewards(tmp_path)
    assert found[0] < 0.2
    assert sum(found[-5:]) / 5 > 0.95


@pytest.mark.parametrize("beside", [False, True])
def test_resumed_equals_unbroken_with_what_was_pending(tmp_path: Path, beside: bool) -> None:
    whole = ahead(tmp_path / "whole", beside=beside)
    whole.run()
    broken = ahead(tmp_path / "broken", beside=beside)
    broken._resume()
    for _ in range(3):
        metrics, _ = broken.iterate()
        broken.recorder.metrics(metrics)
        if broken.step == 4:
            broken.save()
    resumed = ahead(tmp_path / "broken", beside=beside)
    resumed.run()
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rewards(tmp_path / "broken") == rewards(tmp_path / "whole")
    assert lines(tmp_path / "broken", "metrics.jsonl")[2]["rollouts/staleness_steps"] == 2  # it was in the checkpoint


def test_after_a_rollback_nothing_of_the_fooled_policy_is_trained_on(tmp_path: Path) -> None:
    made = hacked(tmp_path, 40)
    made.plan = replace(made.plan, one_step_off=True)
    made.learner.loss = replace(made.learner.loss, importance_cap=2.0)
    made.source = RolloutSource(made.draw, made.streams, made.sampler, True)
    made.run()
    (event,) = [event for event in lines(tmp_path, "events.jsonl") if event["action"] == "rollback"]
    ages = {row["step"]: row["rollouts/staleness_steps"] for row in lines(tmp_path, "metrics.jsonl")}
    assert ages[event["step"]] == 1
    assert ages[event["step"] + 1] == 0
    assert ages[event["step"] + 2] == 1


class Failing(Beside):
    """Fails at one of its samples, or renewals."""

    def __init__(self, inner: PolicySampler, at: str, number: int) -> None:
        super().__init__(inner)
        self.at, self.number = at, number

    def refresh(self, step: int) -> None:
        super().refresh(step)
        if self.at == "refresh" and self.renewed == self.number:
            raise ModelError("gone")

    def sample(self, *arguments: Any, **told: Any) -> list[Rollout]:  # type: ignore[override]
        if self.at == "sample" and len(self.threads) == self.number - 1:
            raise ModelError("gone")
        return super().sample(*arguments, **told)


@pytest.mark.parametrize("one_step_off", [False, True])
@pytest.mark.parametrize("at", ["refresh", "sample"])
def test_an_engine_that_fails_leaves_the_streams_before_what_was_not_learned_from(
    tmp_path: Path, one_step_off: bool, at: str
) -> None:
    made = ahead(tmp_path) if one_step_off else tiny_distiller(tmp_path, "grpo", 12)
    assert isinstance(made.sampler, PolicySampler)
    made.sampler = Failing(made.sampler, at, 4)
    made.source = RolloutSource(made.draw, made.streams, made.sampler, one_step_off)
    made._resume()
    with pytest.raises(ModelError, match="gone"):
        while True:
            made.iterate()
    learned = made.step // 2
    assert learned == (2 if one_step_off and at == "refresh" else 3)
    made.source.undo()
    kept = one_step_off and at == "refresh"  # what was written ahead is trained on when the engine is back
    assert made.streams["s0"].state() == {"position": 4 * (learned + kept)}
    assert bool(made.source.state()) == kept


@pytest.mark.parametrize("beside", [False, True])
def test_undone_at_the_end_the_streams_stand_before_the_prompts_of_what_was_taken(tmp_path: Path, beside: bool) -> None:
    """The last rollouts were written ahead, of prompts that no later iteration drew; a checkpoint remembers where."""
    made, again = (ahead(tmp_path / name, beside=beside) for name in ("made", "again"))
    made.source.take(0, 2)
    pending = deepcopy(made.source.state())
    assert pending["before"] == {"s0": {"position": 4}}
    again.source.load_state(pending)
    again.streams["s0"].load_state({"position": 8})
    for distiller in (made, again):
        distiller.source.take(2, None)
        assert distiller.streams["s0"].state() == {"position": 8}
        distiller.source.undo()
        assert distiller.streams["s0"].state() == {"position": 4}


def without_rollouts_at(made: Distiller, call: int) -> Distiller:
    """The engine has no rollouts at its so-manieth call."""
    sample, calls = made.sampler.sample, [0]

    def failing(*arguments: Any, **told: Any) -> list[Rollout]:
        calls[0] += 1
        if calls[0] == call:
            raise RolloutError("no server")
        return sample(*arguments, **told)

    made.sampler.sample = failing  # type: ignore[method-assign]
    return made


def test_a_run_without_rollouts_is_saved_and_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    unbroken = tiny_distiller(tmp_path / "unbroken", "grpo", 12)
    unbroken.run()
    with pytest.raises(RolloutError, match="tiny: no server; saved at step 6, the same command continues"):
        without_rollouts_at(tiny_distiller(tmp_path / "broken", "grpo", 12), 4).run()
    resumed = tiny_distiller(tmp_path / "broken", "grpo", 12)
    resumed.run()
    for ours, theirs in zip(weights(resumed).values(), weights(unbroken).values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("save_every", [2, 100])
def test_prompts_that_could_not_be_answered_ahead_come_again(tmp_path: Path, save_every: int) -> None:
    """With a checkpoint while the answers are missing, and with none."""
    made = without_rollouts_at(ahead(tmp_path, beside=True, save_every=save_every), 4)
    if save_every == 100:
        with pytest.raises(RolloutError, match="saved at step 6"):
            made.run()
        assert made.streams["s0"].state()["position"] == 3 * 4
        made = ahead(tmp_path, beside=True, save_every=save_every)
    made.run()
    assert made.streams["s0"].state()["position"] == 6 * 4
