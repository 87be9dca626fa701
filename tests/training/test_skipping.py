"""Steps that are not finite: nothing is touched, all of them are counted, and several in a row end the run with a
dump."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_refit import distiller as refitting
from tests.training.test_rollback import lines, weights
from tests.training.test_supervised import EXAMPLES, new_policy, plan, trainer
from tests.training.tools import WordReward, tiny_distiller
from yonder.errors import TrainingError
from yonder.schema import Rollout, Score
from yonder.training.distill import Distiller
from yonder.training.rollout import Term
from yonder.training.seeding import seeded
from yonder.training.sft_losses import LanguageLoss
from yonder.training.signal import Refill
from yonder.training.supervised import Example


class Ill(WordReward):
    """The word reward, but not a number in some of its calls."""

    def __init__(self, calls: Sequence[int]) -> None:
        self.calls, self.seen = calls, 0

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        self.seen += 1
        found = super().score(rollouts)
        return [Score(math.nan, "ill")] * len(found) if self.seen in self.calls else found


def ill(folder: Path, calls: Sequence[int], steps: int = 12, **more: object) -> Distiller:
    made = tiny_distiller(folder, "grpo", steps, **more)  # type: ignore[arg-type]
    made.terms = [Term("word", "s0", 1.0, Ill(calls))]
    return made


def test_a_step_that_is_not_finite_touches_nothing_and_is_counted(tmp_path: Path) -> None:
    made = ill(tmp_path, [2], steps=4, epochs=1, save_every=4)
    made.iterate()
    before, optimizer = weights(made), deepcopy(made.learner.optimizer.state_dict()["state"])
    metrics, _ = made.iterate()
    assert metrics["skipped_steps"] == 1
    assert "loss" not in metrics
    assert made.step == 2
    after = made.learner.optimizer.state_dict()["state"]
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(made).items())
    assert all(torch.equal(after[key]["exp_avg"], value["exp_avg"]) for key, value in optimizer.items())
    made.iterate()
    assert made.learner.skips.state() == {"total": 1, "in_row": 0}  # a made step ends the row
    assert not all(torch.equal(before[name], tensor) for name, tensor in weights(made).items())


def test_the_result_has_the_count_and_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    first = ill(tmp_path, [3], steps=8)  # two epochs: two steps are skipped
    assert first.run()["skipped_steps"] == 2
    longer = ill(tmp_path, [1], steps=16)  # its first call
    assert longer.run()["skipped_steps"] == 4


def test_those_before_an_interruption_are_in_the_same_row(tmp_path: Path) -> None:
    assert ill(tmp_path, [4], steps=8).run()["skipped_steps"] == 2  # its last two
    with pytest.raises(TrainingError, match=r"tiny, step 8: .* 3 steps in a row"):
        ill(tmp_path, [1], steps=16).run()


def test_several_in_a_row_end_the_run_with_a_dump(tmp_path: Path) -> None:
    made = ill(tmp_path, [2, 3], max_skipped=3)
    words = (
        r"tiny, step 4: loss nan or gradient norm nan is not finite, 3 steps in a row; .*not-finite-00000004.json has"
    )
    with pytest.raises(TrainingError, match=words):
        made.run()
    dump = json.loads((tmp_path / "not-finite-00000004.json").read_text())
    assert (dump["step"], dump["loss"], dump["skipped_in_a_row"]) == (4, "nan", 3)
    assert dump["terms"] == {"word@s0": 1.0}
    assert len(dump["rollouts"]) == 32
    row = dump["rollouts"][0]
    assert row["completion"]
    assert row["scores"]["word"] == {"value": None, "reason": "ill", "details": {}}
    assert row["numbers"]["word@s0"]["advantages"] == ["nan", "nan"]
    low, high = map(float, row["numbers"]["old_logprobs"])
    assert low <= high <= 0
    assert [line["step"] for line in lines(tmp_path, "metrics.jsonl")] == [2, 4]


def test_supervised_steps_are_skipped_and_counted_too(tmp_path: Path) -> None:
    policy = new_policy()
    good, calls = LanguageLoss(policy, 0.0), [0]

    def loss(part: list[Example], batch: list[Example]) -> torch.Tensor:
        calls[0] += 1
        return good(part, batch) * (math.inf if calls[0] in (2, 3, 5) else 1.0)

    assert trainer(tmp_path, policy, loss, plan()).run()["skipped_steps"] == 3
    rows = lines(tmp_path, "metrics.jsonl")
    assert [row["skipped_steps"] for row in rows] == [1, 2, 3, 3, 3, 3]
    assert all(math.isfinite(row["loss"]) for row in rows)  # of the steps that were made


def test_supervised_ends_after_several_with_the_weights_as_they_were(tmp_path: Path) -> None:
    policy = new_policy()
    before = deepcopy(policy.model.state_dict())
    good = LanguageLoss(policy, 0.0)
    broken = trainer(tmp_path, policy, lambda part, batch: good(part, batch) * math.nan, plan(max_skipped=2))
    with pytest.raises(TrainingError, match=r"tiny, step 1: loss nan .* 2 steps in a row; .*not-finite-00000001.json"):
        broken.run()
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())
    dump = json.loads((tmp_path / "not-finite-00000001.json").read_text())
    texts = {policy.tokenizer.decode(list(example.ids)) for example in EXAMPLES}
    assert {row["text"] for row in dump["examples"]} <= texts
    assert len(dump["examples"]) == 2


@pytest.mark.parametrize("adapter", [False, True])
def test_a_refit_that_is_not_finite_leaves_the_reward_as_it_was(tmp_path: Path, adapter: bool) -> None:
    made = refitting(tmp_path, steps=4, adapter=adapter)
    assert made.refit is not None
    trainee, calls = made.refit.trainee, [0]  # type: ignore[attr-defined]
    good = trainee.loss

    def loss(part: list[Example], batch: list[Example]) -> torch.Tensor:
        calls[0] += 1
        return good(part, batch) * (math.nan if calls[0] > 1 else 1.0)  # after a step that was made

    object.__setattr__(trainee, "loss", loss)
    before = {name: tensor.clone() for name, tensor in made.refit.model.model.state_dict().items()}
    made.run()
    after = made.refit.model.model.state_dict()
    assert calls[0] > 1
    assert all(torch.equal(before[name], after[name]) for name in before)
    (event,) = [row for row in lines(tmp_path, "events.jsonl") if row["rule"] == "refit"]
    assert event["action"] == "not-refitted"
    assert "not finite" in event["message"]


# ----- random numbers of the user's own


class Whim:
    """A reward that draws from every global generator."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(random.random() + float(np.random.rand()) + float(torch.rand(()))) for _ in rollouts]


class Remembered(Whim):
    """It keeps what it gave, call after call."""

    def __init__(self) -> None:
        self.given: list[list[Score]] = []

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        self.given.append(super().score(rollouts))
        return self.given[-1]


def test_a_reward_that_draws_random_numbers_resumes_exactly(tmp_path: Path) -> None:
    def made(name: str, steps: int) -> Distiller:
        found = tiny_distiller(tmp_path / name, "grpo", steps, schedule="constant")
        found.terms = [Term("word", "s0", 1.0, Whim())]
        return found

    whole = made("whole", 8)
    whole.run()
    made("broken", 4).run()
    random.seed(7)
    resumed = made("broken", 8)
    resumed.run()
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())


def test_each_refill_of_a_step_draws_numbers_of_its_own(tmp_path: Path) -> None:
    def drawn(name: str, refill: Refill) -> list[list[Score]]:
        made, reward = tiny_distiller(tmp_path / name, "grpo", 2, refill=refill), Remembered()
        made.terms = [Term("word", "s0", 1.0, reward)]
        made.iterate()
        return reward.given

    alone = drawn("alone", Refill())
    found = drawn("refilled", Refill(2, 100.0))  # no group ever differs by so much
    assert (len(alone), len(found)) == (1, 3)
    assert found[0] == alone[0]
    assert len({score.value for scores in found for score in scores}) == sum(map(len, found))
    assert drawn("again", Refill(2, 100.0)) == found


def test_the_callers_random_numbers_go_on_as_if_nothing_was() -> None:
    def three() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def begin() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    begin()
    expected = three()
    begin()
    with seeded(5):
        inside = three()
    assert three() == expected
    with seeded(5):
        assert three() == inside
