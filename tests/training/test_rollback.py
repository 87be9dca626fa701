"""What follows a trip: the good checkpoint comes back, weight moves to lambda, and all of it is exact when resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tools import WordReward, tiny_distiller
from yonder.schema import Rollout, Score, Trip
from yonder.training.checkpoint import CheckpointStore, load_policy_weights
from yonder.training.distill import Distiller
from yonder.training.monitor import Monitor
from yonder.training.rollback import Safety, moved
from yonder.training.rollout import Term
from yonder.training.watches import MonitorRules

RULES = MonitorRules(
    window=3, min_wrong=20, z=3.0, max_false_yes=1.0, max_false_yes_growth=0.1, max_gap_growth=2.0, min_length=0.0,
    max_unscored=1.0, max_run_fall=0.2,
)  # fmt: skip
TRIP = Trip("false-yes", "judge", "s0", "fooled", {})


class Fooled:
    """A judge that likes completions whose first token is odd: half of them by chance, soon all."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(float(rollout.completion.token_ids[0] % 2)) for rollout in rollouts]


def terms() -> list[Term]:
    return [Term("word", "s0", 0.0, WordReward()), Term("judge", "s1", 1.0, Fooled())]


def hacked(folder: Path, steps: int, action: str = "rollback", verifier: bool = True, most: int = 1) -> Distiller:
    """The judge alone on s1; on s0 it is only watched, beside the word reward."""
    made = tiny_distiller(folder, "grpo", steps, terms=2, epochs=1, save_every=2, lr=2e-2, group_size=32)
    made.terms = terms()
    made.probes = [Term("judge", "s0", 0.0, Fooled())]
    made.monitor = Monitor(RULES, made.terms, made.probes, "word")
    made.safety = Safety(action, RULES.window, most, made.terms[0] if verifier else None)
    return made


def lines(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def weights(made: Distiller) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.learner.policy.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_term_of_weight_0_is_rolled_out_watched_and_trips(tmp_path: Path) -> None:
    made = hacked(tmp_path, 20, action="warn")
    made.run()
    rows, events = lines(tmp_path, "metrics.jsonl"), lines(tmp_path, "events.jsonl")
    assert all("rollouts/s0/length_mean" in row and "monitor/judge/gap" in row for row in rows)
    assert [(event["rule"], event["action"]) for event in events] == [("false-yes-growth", "warn")]
    event = events[0]
    assert event["figures"]["now"] > event["figures"]["first"] + 0.1
    assert event["rollouts"] and all(row["scores"]["judge"]["value"] == 1.0 for row in event["rollouts"])
    (alarmed,) = [row for row in rows if "alarm" in row]
    assert (alarmed["step"], alarmed["alarm"]["action"]) == (event["step"], "warn")
    assert [term.weight for term in made.terms] == [0.0, 1.0]


class Remembering(CheckpointStore):
    """Keeps the weights of every save in memory."""

    def __init__(self, folder: Path, keep: int) -> None:
        super().__init__(folder, keep)
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def save(self, step, policy, state, best_step, also=(), beside=None):  # type: ignore[no-untyped-def]
        self.seen[step] = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        return super().save(step, policy, state, best_step, also, beside)


def test_rollback_restores_the_good_weights_and_moves_the_weight(tmp_path: Path) -> None:
    made = hacked(tmp_path, 40)
    made.store = store = Remembering(tmp_path / "checkpoints", 1)
    result = made.run()
    (event,) = [event for event in lines(tmp_path, "events.jsonl") if event["action"] == "rollback"]
    good = max(step for step in store.seen if step < event["step"] - RULES.window)
    assert same(store.seen[event["step"]], store.seen[good])
    assert not same(store.seen[good], store.seen[max(step for step in store.seen if step < event["step"])])
    assert result["rollbacks"] == 1
    assert result["weights"] == {"word@s0": 1.0, "judge@s1": 0.0}
    rows = lines(tmp_path, "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 41))  # the steps go on
    assert [row["terms/word@s0/weight"] for row in rows][event["step"] - 1 :][:2] == [0.0, 1.0]
    assert rows[-1]["terms/word@s0/reward_mean"] > 2 * rows[0]["terms/word@s0/reward_mean"]  # the truth is learned now


def test_two_rewards_that_trip_at_once_are_one_rollback(tmp_path: Path) -> None:
    made = hacked(tmp_path, 40)
    word, judge = terms()
    made.terms = [word, replace(judge, weight=0.5), replace(judge, reward_name="other", weight=0.5)]
    made.learner.value_outputs = [0, 1, 2]
    made.probes = [*made.probes, replace(made.probes[0], reward_name="other")]
    made.monitor = Monitor(RULES, made.terms, made.probes, "word")
    result = made.run()
    rolled = [
        (event["step"], event["reward"]) for event in lines(tmp_path, "events.jsonl") if event["action"] == "rollback"
    ]
    assert [reward for _, reward in rolled] == ["judge", "other"] and rolled[0][0] == rolled[1][0]
    assert result["rollbacks"] == 1
    assert result["weights"] == {"word@s0": 1.0, "judge@s1": 0.0, "other@s1": 0.0}
    assert lines(tmp_path, "metrics.jsonl")[-1]["step"] == 40


def test_resumed_after_a_rollback_equals_unbroken(tmp_path: Path) -> None:
    whole = hacked(tmp_path / "whole", 30)
    whole.run()
    (event,) = [event for event in lines(tmp_path / "whole", "events.jsonl") if event["action"] == "rollback"]
    for cut in (event["step"] - 1, event["step"], event["step"] + 3):
        folder = tmp_path / f"cut{cut}"
        broken = hacked(folder, 30)
        broken.progress = Interrupt(cut)
        with pytest.raises(KeyboardInterrupt):
            broken.run()
        resumed = hacked(folder, 30)
        resumed.run()
        assert same(weights(whole), weights(resumed))
        assert [term.weight for term in resumed.terms] == [1.0, 0.0]
        assert lines(folder, "events.jsonl") == lines(tmp_path / "whole", "events.jsonl")
        shown = [
            [row["terms/judge@s1/reward_mean"] for row in lines(of, "metrics.jsonl")]
            for of in (tmp_path / "whole", folder)
        ]
        assert shown[0] == shown[1]


class Interrupt:
    """Ends the run when an iteration after `step` has been made."""

    def __init__(self, step: int) -> None:
        self.step = step

    def start(self, title: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, done: int, facts: dict[str, str]) -> None:
        if done > self.step:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass

    def say(self, message: str) -> None:
        pass


@pytest.mark.parametrize(
    ("action", "verifier", "most"), [("stop", True, 2), ("rollback", False, 2), ("rollback", True, 0)]
)
def test_stops_with_the_good_weights(tmp_path: Path, action: str, verifier: bool, most: int) -> None:
    made = hacked(tmp_path, 40, action, verifier, most)
    result = made.run()
    (event,) = lines(tmp_path, "events.jsonl")
    assert event["action"] == "stop-at-good"
    assert result["stopped"] == event["message"]
    assert result["steps"] == event["step"] == result["chosen_step"] < 40
    other = hacked(tmp_path / "other", 40, action)
    load_policy_weights(made.store.path(result["chosen_step"]), other.learner.policy)
    assert same(weights(made), weights(other))
    other.store = made.store
    drawn = Fooled().score(made.draw(made.step)()["s0"])
    assert sum(score.value or 0 for score in drawn) < 0.8 * len(drawn)  # not the hacked one
    again = hacked(tmp_path, 40, action, verifier, most)
    assert again.run()["steps"] == event["step"]  # continued, it stays stopped


# ----- the decisions


def test_weights_stay_convex() -> None:
    three = [
        Term("word", "a", 0.25, WordReward()),
        Term("judge", "b", 0.5, Fooled()),
        Term("rank", "b", 0.25, Fooled()),
    ]
    first = moved(three, "judge", three[0])
    assert [term.weight for term in first] == [0.75, 0.0, 0.25]
    assert [term.weight for term in moved(first, "rank", first[0])] == [1.0, 0.0, 0.0]
    twice = [replace(three[0]), Term("judge", "a", 0.25, Fooled()), three[1]]
    assert [term.weight for term in moved(twice, "judge", twice[0])] == [1.0, 0.0, 0.0]


def test_nothing_trained_on_it_means_a_warning() -> None:
    safety = Safety("rollback", 4, 1, terms()[0])
    assert safety.decide(TRIP, terms()) == "rollback"
    assert safety.decide(TRIP, moved(terms(), "judge", terms()[0])) == "warn"
    assert safety.decide(replace(TRIP, rule="unscored", stream="s1"), terms()) == "stop"
    assert safety.decide(replace(TRIP, rule="unscored"), terms()) == "warn"  # the probe


def test_a_checkpoint_is_good_after_a_window_without_a_trip() -> None:
    safety = Safety("rollback", 4, 1, None)
    safety.saved(0)
    assert safety.good_step == 0  # before any training
    for step in range(1, 7):
        if step == 2:
            safety.saved(step)
        safety.calm(step)
        assert safety.good_step == (2 if step >= 6 else 0)
    safety.saved(8)
    assert safety.kept == {2, 8}
    safety.returned(9)
    safety.saved(9)
    assert (safety.good_step, safety.kept, safety.rollbacks) == (9, {9}, 1)
    assert Safety("warn", 4, 1, None, good_step=3).kept == set()


def test_a_warning_that_nothing_is_learned_leaves_the_good_checkpoint_alone(tmp_path: Path) -> None:
    made = hacked(tmp_path, 4)
    made.save()
    made.step = 1
    made.save()
    made.step = 1 + RULES.window
    told = {}
    assert made.react([replace(TRIP, rule="zero")], told) == ""
    assert made.safety.good_step == 1  # settled: as if nothing had been told
    assert told["alarm"]["action"] == "warn"


def test_weights_that_moved_are_known_to_the_monitor(tmp_path: Path) -> None:
    made = hacked(tmp_path, 4)
    made.save()
    made.react([TRIP], {})
    none = {("word", "s0"): [Score(0.0)], ("judge", "s0"): [Score(0.0)], ("judge", "s1"): [Score(0.0)]}
    rollouts = {name: made.sampler.sample(made.streams[name].next(1), 1, 1.0, 0) for name in made.streams}
    found = [trip.name for i in range(RULES.window) for trip in made.monitor.observe(i, rollouts, none)[1]]
    assert found == ["zero word@s0"]
