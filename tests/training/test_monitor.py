"""The monitor: what must and what must not trip, told once, exact when continued."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import Sandbox
from yonder.schema import Completion, Prompt, Rollout, Score, Trip
from yonder.stages.plans import run_states
from yonder.training.monitor import Monitor
from yonder.training.rollback import Safety
from yonder.training.rollout import Term
from yonder.training.watches import MonitorRules
from yonder.training.window import Window, agreement, compare

VERIFIED = Term("verifiable", "labeled", 0.0, None)  # type: ignore[arg-type]
JUDGED = Term("judge", "unlabeled", 1.0, None)  # type: ignore[arg-type]
PROBE = Term("judge", "labeled", 0.0, None)  # type: ignore[arg-type]
RULES = MonitorRules(
    window=2, min_wrong=10, z=3.0, max_false_yes=0.5, max_false_yes_growth=0.1, max_gap_growth=0.1, min_length=0.5,
    max_unscored=0.5, max_run_fall=0.2,
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


def ran(fail: int, unknown: int = 0) -> Batch:
    """Forty programs that the judge scores 0.7: the first `fail` raise, the sandbox failed on the last `unknown`."""
    members, given = batch()
    states = ["error"] * fail + ["ok"] * (40 - fail - unknown) + ["infrastructure"] * unknown
    return members, {**given, ("right", "unlabeled"): [Score(None, "no label", {"status": one}) for one in states]}


def runs_monitor(**rules: float) -> Monitor:
    states = {"unlabeled": lambda rollouts, scores: scores["right", "unlabeled"]}
    return Monitor(replace(RULES, **rules), [VERIFIED, JUDGED], [PROBE], "verifiable", states)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batches", "rules"),
    [
        ([ran(4)] * 2 + [ran(20)] * 2, ["not-running"]),  # 90 % -> 50 %
        ([ran(4)] * 2 + [ran(11)] * 2, []),  # 0.175 is within 0.2
        ([ran(30)] * 4, []),  # never any good: no fall
        ([ran(4)] * 2 + [ran(0, unknown=36)] * 2, []),  # the sandbox's own failures are no programs that fail
    ],
)
def test_programs_that_stop_running(batches: list[Batch], rules: list[str]) -> None:
    assert [name for names in feed(runs_monitor(), *batches) for name in names] == rules
    assert not any(feed(monitor(), *batches))  # nobody runs them there


def test_a_fall_of_running_programs_must_be_sure() -> None:
    # 40 prompts, each twice in a window of 80. 4 -> 20 failing: 16 prompts add 2/80 to the mean, which grows by 0.4, so
    # their residuals change by 0.025 - 0.01 and the others' by -0.01: 16 x 0.015^2 + 24 x 0.01^2 = 0.006;
    # sqrt(40/39 x 0.006) = 0.07845; z = 0.4 / 0.07845 = 5.099
    fallen = [ran(4)] * 2 + [ran(20)] * 2
    assert feed(runs_monitor(z=5.0), *fallen)[-1] == ["not-running"]
    assert feed(runs_monitor(z=5.2), *fallen)[-1] == []
    (trip,) = trips(runs_monitor(), *fallen)
    assert (trip.reward, trip.stream) == ("judge", "unlabeled")
    assert trip.message == "50% of the programs that judge@unlabeled scores run; at the start it was 90%"
    assert trip.figures == {"first": 0.9, "now": 0.5, "rollouts": 80}
    assert [row["scores"]["runs"]["details"]["status"] for row in trip.rollouts] == ["error"] * 4
    assert runs_monitor().observe(0, *ran(10, unknown=20))[0]["rollouts/unlabeled/running"] == 0.5
    action = Safety("rollback", 2, 1, VERIFIED).decide(trip, [VERIFIED, JUDGED])
    assert action == "rollback"  # as `short`


def test_what_says_whether_programs_run() -> None:
    with Sandbox(workers=1) as sandbox:
        programs = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(), sandbox.run)
        judged, verified = Term("judge", "s", 0.5, None), Term("right", "s", 0.5, programs)  # type: ignore[arg-type]
        texts = ["def solution():\n    return 3", "def solution():\n    return 1 / 0", "no program"]
        done = [Completion((1,), (0.0,), text, True) for text in texts]
        members = {"s": [Rollout(Prompt(str(i), "q", "t"), (1,), done[i]) for i in range(3)]}
        assert run_states([judged], {"s": programs}, False) == {}  # nobody runs them
        assert run_states([judged], {}, True) == {}  # no programs
        (given,) = run_states([judged, verified], {"s": programs}, False).values()
        truth = [Score(1.0, details={"status": "ok"})] * 3
        assert given(members, {("right", "s"): truth}) is truth
        (run,) = run_states([judged], {"s": programs}, True).values()
        found = run(members, {})
    assert [(score.value, score.details["status"]) for score in found] == [(1.0, "ok"), (0.0, "error"), (0.0, "error")]
    assert "ZeroDivisionError" in found[1].reason


def zeros(unlabeled: list[float | None], labeled: float = 1.0) -> Batch:
    members, given = batch()
    guards = [Score(value, "empty", {"guard": "empty"} if value == 0 else {}) for value in unlabeled]
    truth = [Score(labeled, details={"correct": True})] * 40
    return members, {**given, ("judge", "unlabeled"): guards, ("verifiable", "labeled"): truth}


def test_nothing_but_zeros_is_told_and_never_stops() -> None:
    none = zeros([0.0] * 30 + [None] * 10)
    found = trips(monitor(), *[none] * 4)
    assert [trip.rule for trip in found] == ["zero"]
    assert found[0].message == (
        "every score of judge@unlabeled has been 0 for 2 iterations, so nothing is learned from it; guards caught 30 "
        "of the last 40; read the reasons in the rollout log"
    )
    assert len(found[0].rollouts) == 8 and found[0].rollouts[0]["scores"]["judge"]["value"] == 0
    assert Safety("rollback", 2, 1, VERIFIED).decide(found[0], [VERIFIED, JUDGED]) == "warn"


def test_what_is_not_all_zeros() -> None:
    some, unscored = zeros([0.0] * 39 + [0.1]), zeros([None] * 40)
    lenient = replace(RULES, max_unscored=1.0)
    assert feed(monitor(), *[some] * 4) == [[]] * 4
    assert feed(monitor(), *[zeros([0.0] * 40), some] * 3) == [[]] * 6  # not in a row
    assert ["zero"] not in feed(monitor(lenient), *[unscored] * 4)  # unscored is no zero
    assert feed(monitor(), *[zeros([0.7] * 40, labeled=0.0)] * 4) == [[]] * 4  # a term of weight 0 teaches nothing


def test_zeros_of_a_term_whose_weight_moved() -> None:
    watched = monitor()
    watched.reweigh([replace(VERIFIED, weight=1.0), replace(JUDGED, weight=0.0)])
    assert feed(watched, *[zeros([0.0] * 40)] * 3) == [[]] * 3
    again = zeros([0.7] * 40, labeled=0.0)
    (trip,) = trips(watched, *[again] * 2)
    assert (trip.rule, trip.reward) == ("zero", "verifiable")


def test_a_probe_without_scores_is_told_and_does_not_stop() -> None:
    members, given = batch()
    silent = members, {**given, ("judge", "labeled"): [Score(None, "no mass")] * 40}
    (trip,) = trips(monitor(), *[silent] * 3)
    assert (trip.rule, trip.reward, trip.stream) == ("unscored", "judge", "labeled")
    safety = Safety("stop", 2, 1, VERIFIED)
    assert safety.decide(trip, [VERIFIED, JUDGED]) == "warn"
    assert safety.decide(replace(trip, stream="unlabeled"), [VERIFIED, JUDGED]) == "stop"  # a term's


def test_a_state_from_before_a_watch_was_switched_on() -> None:
    before, after = monitor(), runs_monitor()
    feed(before, *[ran(4)] * 2)
    after.load_state(before.state())
    assert [r for rules in feed(after, *[ran(4)] * 2, *[ran(20)] * 2) for r in rules] == ["not-running"]


def test_the_state_of_the_label_free_rules_goes_round() -> None:
    batches = [ran(4), ran(3), zeros([0.0] * 40), zeros([0.0] * 40), ran(20), ran(22), ran(22)]
    batches = [(m, {("right", "unlabeled"): [Score(None)] * 40, **s}) for m, s in batches]
    whole = runs_monitor()
    expected = feed(whole, *batches)
    assert {rule for rules in expected for rule in rules} == {"zero", "not-running"}
    for cut in range(len(batches)):
        first, second = runs_monitor(), runs_monitor()
        before = feed(first, *batches[:cut])
        second.load_state(first.state())
        assert before + [[t.rule for t in second.observe(i, *batches[i])[1]] for i in range(cut, 7)] == expected
        assert second.state() == whole.state()
