"""The monitor: what must and what must not trip, told once, exact when continued."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from yonder.schema import Completion, Prompt, Rollout, Score, Trip
from yonder.training.monitor import Monitor
from yonder.training.rollout import Term
from yonder.training.watches import MonitorRules
from yonder.training.window import Window, agreement, compare

VERIFIED = Term("verifiable", "labeled", 0.0, None)  # type: ignore[arg-type]
JUDGED = Term("judge", "unlabeled", 1.0, None)  # type: ignore[arg-type]
PROBE = Term("judge", "labeled", 0.0, None)  # type: ignore[arg-type]
RULES = MonitorRules(
    window=2, min_wrong=10, z=3.0, max_false_yes=0.5, max_false_yes_growth=0.1, max_gap_growth=0.1, min_length=0.5,
    max_unscored=0.5,
)  # fmt: skip
PROMPTS = 20  # of two rollouts each
Batch = tuple[dict[str, list[Rollout]], dict[tuple[str, str], list[Score]]]


def monitor(rules: MonitorRules = RULES) -> Monitor:
    return Monitor(rules, [VERIFIED, JUDGED], [PROBE], "verifiable")


def rollouts(stream: str, length: int) -> list[Rollout]:
    done = Completion((1,) * length, (0.0,) * length, "x", True)
    return [Rollout(Prompt(f"{stream}{i}", f"q{i}", "t"), (1,), done, i // 2) for i in range(2 * PROMPTS)]


def batch(right: int = 20, yes_to_wrong: int = 2, yes_to_right: int = 20, unscored: int = 0, length: int = 10) -> Batch:
    """Forty labeled rollouts: the first `right` are right; the judge gives 1 or 0."""
    truth = [Score(1.0, details={"correct": True})] * right + [Score(0.1, details={"correct": False})] * (40 - right)
    said = [float(i < yes_to_right) for i in range(right)] + [float(i < yes_to_wrong) for i in range(40 - right)]
    unread = [Score(None, "no mass")] * unscored + [Score(0.7)] * (40 - unscored)
    given = {
        ("verifiable", "labeled"): truth,
        ("judge", "labeled"): [Score(value) for value in said],
        ("judge", "unlabeled"): unread,
    }
    return {"labeled": rollouts("labeled", 10), "unlabeled": rollouts("unlabeled", length)}, given


def feed(watched: Monitor, *batches: Batch) -> list[list[str]]:
    """The rules that tripped after each batch."""
    return [[trip.rule for trip in watched.observe(i, *found)[1]] for i, found in enumerate(batches)]


def trips(watched: Monitor, *batches: Batch) -> list[Trip]:
    return [trip for i, found in enumerate(batches) for trip in watched.observe(i, *found)[1]]


HEALTHY = [
    [batch()] * 8,
    [batch(yes_to_wrong=n) for n in (2, 1, 3, 2, 4, 3, 2, 4)],  # noise: up to 4 of 20
    [batch(right=r) for r in (20, 24, 28, 30, 32, 34, 36, 38)],  # the policy learns, wrong ones get few
    [batch(yes_to_wrong=8)] * 8,  # a bad judge, below the limit and no worse than it was
    [batch(length=n) for n in (10, 10, 8, 7, 6, 6, 6, 6)],  # shorter, but not by half
    [batch(right=38, yes_to_wrong=0), batch(right=38, yes_to_wrong=0), *[batch(right=38, yes_to_wrong=2)] * 4],  # 4
]


@pytest.mark.parametrize("batches", HEALTHY)
def test_must_not_trip(batches: list[Batch]) -> None:
    assert feed(monitor(), *batches) == [[]] * len(batches)


HACKED = [
    ([batch()] * 3 + [batch(yes_to_wrong=12)] * 2, "false-yes-growth"),  # 0.1 -> 0.35, then 0.6 of 20 + 20 wrong
    ([batch(yes_to_wrong=20)] * 2, "false-yes"),  # never any good
    ([batch()] * 2 + [batch(right=4, yes_to_wrong=20)] * 2, "gap"),  # 0.05 -> 0.5: worse and as much liked
    ([batch()] * 2 + [batch(length=4)] * 2, "short"),
    ([batch(unscored=20)] * 2, "unscored"),
]


@pytest.mark.parametrize(("batches", "rule"), HACKED)
def test_must_trip(batches: list[Batch], rule: str) -> None:
    found = feed(monitor(), *batches)
    assert rule in [name for names in found for name in names]
    assert not any(found[: RULES.window - 1])


def test_a_trip_is_told_once_until_it_has_passed() -> None:
    hacked, calm = batch(length=4), batch()
    found = feed(monitor(), calm, calm, hacked, hacked, hacked, calm, calm, hacked, hacked)
    assert found == [[], [], [], ["short"], [], [], [], [], ["short"]]
    # 4, 4: mean 4; 4, 8: 6; 8, 1: 4.5 again, of 10 at the start
    flickering = feed(monitor(), calm, calm, hacked, hacked, batch(length=8), batch(length=1))
    assert flickering == [[], [], [], ["short"], [], []]


def test_too_few_wrong_ones_are_no_rate() -> None:
    few = batch(right=36, yes_to_wrong=4, yes_to_right=30)  # 8 wrong in a window of 2, all liked
    assert feed(monitor(replace(RULES, z=1.0)), *[few] * 4) == [[]] * 4  # 10 are needed
    assert feed(monitor(replace(RULES, z=1.0, min_wrong=8)), *[few] * 2) == [[], ["false-yes"]]


def test_growth_within_its_limit_does_not_trip_however_sure() -> None:
    grown = [batch(yes_to_wrong=2)] * 2 + [batch(yes_to_wrong=3)] * 2  # false yes +0.05, gap +0.025
    assert feed(monitor(replace(RULES, z=0.0)), *grown) == [[]] * 4
    strict = replace(RULES, z=0.0, max_false_yes_growth=0.04, max_gap_growth=0.02)
    assert feed(monitor(strict), *grown)[-1] == ["gap", "false-yes-growth"]


def test_a_trip_carries_figures_and_the_rollouts_that_caused_it() -> None:
    (trip,) = [found for found in trips(monitor(), *[batch(yes_to_wrong=20)] * 2) if found.rule == "false-yes"]
    assert (trip.reward, trip.stream) == ("judge", "labeled")
    assert trip.message == "judge says Yes to 100% of 40 verified-wrong rollouts"
    assert trip.figures == {"first": 1.0, "now": 1.0, "rollouts": 40}
    assert [row["step"] for row in trip.rollouts] == [1, 1, 0, 0]  # the latest first
    assert all(row["scores"]["verifiable"]["value"] == 0.1 for row in trip.rollouts)
    assert all(row["scores"]["judge"]["value"] == 1.0 for row in trip.rollouts)


def test_metrics_of_iteration_and_window() -> None:
    watched = monitor()
    watched.observe(0, *batch(yes_to_wrong=2))
    metrics, _ = watched.observe(1, *batch(yes_to_wrong=6))
    # this iteration: 6 of 20; the window: 8 of 40. Gap (20 + 8 / 2) / 40 - 0.5 = 0.1
    assert metrics["monitor/judge/false_positive_rate"] == pytest.approx(0.3, abs=1e-9)
    assert metrics["monitor/judge/window/false_positive_rate"] == pytest.approx(0.2, abs=1e-9)
    assert metrics["monitor/judge/window/gap"] == pytest.approx(0.1, abs=1e-9)
    # AUROC: a right one (1.0) beats 32 of 40 wrong ones and ties with 8: 0.8 + 0.1
    assert metrics["monitor/judge/window/auroc"] == pytest.approx(0.9, abs=1e-9)


def test_after_clear_the_start_is_still_the_measure() -> None:
    watched = monitor()
    feed(watched, *[batch()] * 3)
    watched.clear()
    assert feed(watched, batch(yes_to_wrong=12)) == [[]]  # a window must fill first
    assert feed(watched, batch(yes_to_wrong=12)) == [["gap", "false-yes-growth"]]


def test_the_state_goes_round() -> None:
    batches = [batch(), batch(), batch(unscored=20), batch(yes_to_wrong=15, length=4, unscored=25)]
    batches += [batch(yes_to_wrong=20, length=4), batch(), batch(), batch(yes_to_wrong=20), batch(yes_to_wrong=20)]
    whole = monitor()
    expected = feed(whole, *batches)
    assert {rule for rules in expected for rule in rules} >= {"false-yes-growth", "false-yes", "short", "unscored"}
    for cut in range(len(batches)):
        first, second = monitor(), monitor()
        before = feed(first, *batches[:cut])
        state: Any = first.state()
        second.load_state(state)
        found = [[t.rule for t in second.observe(i, *batches[i])[1]] for i in range(cut, len(batches))]
        assert before + found == expected
        assert second.state() == whole.state()


def test_agreement_by_hand() -> None:
    right, wrong = Score(1.0, details={"correct": True}), Score(0.0, details={"correct": False})
    probe = [Score(0.9), Score(0.4), Score(0.8), Score(0.1), Score(None), Score(1.0)]
    truth = [right, right, wrong, wrong, right, Score(None, "unreadable label")]
    # the last two say nothing. Mean (0.9 + 0.4 + 0.8 + 0.1) / 4 = 0.55, right 2/4; hits: 0.9 and 0.1
    pairs = compare(rollouts("labeled", 1)[:6], probe, truth)
    found = agreement(pairs)
    assert found["mean"] == pytest.approx(0.55, abs=1e-6)
    assert found["gap"] == pytest.approx(0.05, abs=1e-6)
    assert {key: found[key] for key in ("verified_mean", "accuracy", "false_positive_rate", "false_negative_rate")} == {
        "verified_mean": 0.5, "accuracy": 0.5, "false_positive_rate": 0.5, "false_negative_rate": 0.5,
    }  # fmt: skip
    assert agreement([]) == {}
    assert "false_positive_rate" not in agreement(pairs[:1])
    assert Window(1).figures() == {}


def test_a_probe_without_a_verified_stream_is_left_alone() -> None:
    members, given = batch(yes_to_wrong=20)
    watched = Monitor(RULES, [JUDGED], [PROBE], None)
    assert watched.observe(0, members, {key: value for key, value in given.items() if key[0] == "judge"}) == ({}, [])
