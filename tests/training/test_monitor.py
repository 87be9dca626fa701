"""The guards: a probe that drifts from the truth, and rewards that stay away."""

from __future__ import annotations

from typing import Any

import pytest

from yonder.schema import Score
from yonder.training.monitor import Monitor, MonitorRules, agreement
from yonder.training.rollout import Term

VERIFIED = Term("verifiable", "labeled", 0.5, None)  # type: ignore[arg-type]
JUDGED = Term("judge", "unlabeled", 0.5, None)  # type: ignore[arg-type]
PROBE = Term("judge", "labeled", 0.0, None)  # type: ignore[arg-type]


def monitor(window: int = 2) -> Monitor:
    return Monitor(MonitorRules(window, 0.25, 0.5), [VERIFIED, JUDGED], [PROBE], "verifiable")


def scores(probe: float, unscored: int = 0) -> dict[tuple[str, str], list[Score]]:
    """Four labeled rollouts, two of them right, all of one probe score; of four unlabeled ones some are unscored."""
    right, wrong = Score(1.0, details={"correct": True}), Score(0.1, details={"correct": False})
    return {
        ("verifiable", "labeled"): [right, right, wrong, wrong],
        ("judge", "labeled"): [Score(probe)] * 4,
        ("judge", "unlabeled"): [Score(None, "no mass")] * unscored + [Score(0.7)] * (4 - unscored),
    }


def feed(watched: Monitor, *batches: dict[tuple[str, str], list[Score]]) -> list[str]:
    return [watched.observe(batch)[1].action for batch in batches]


def test_a_growing_gap_warns() -> None:
    # gap = probe - 0.5. Window 2: first mean (0.0 + 0.1) / 2 = 0.05
    # then (0.1 + 0.4) / 2 = 0.25: grown by 0.2, no alarm
    # then (0.4 + 0.4) / 2 = 0.4: grown by 0.35 > 0.25, a warning
    watched = monitor()
    assert feed(watched, *(scores(probe) for probe in (0.5, 0.6, 0.9))) == ["none"] * 3
    metrics, alarm = watched.observe(scores(0.9))
    assert alarm.action == "warn"
    assert "judge likes labeled rollouts +0.35 more than they earn" in alarm.message
    assert metrics["monitor/judge/gap"] == pytest.approx(0.4, abs=1e-6)


def test_a_constant_bias_is_not_growth() -> None:
    assert feed(monitor(), *[scores(0.95)] * 6) == ["none"] * 6


def test_a_whole_window_without_scores_stops() -> None:
    watched = monitor(window=3)
    assert feed(watched, scores(0.5, 2), scores(0.5, 3)) == ["none", "none"]
    _, alarm = watched.observe(scores(0.5, 4))
    assert alarm.action == "stop"
    assert "50% or more of the rollouts of judge@unlabeled stayed unscored for 3 iterations" in alarm.message


def test_one_scored_iteration_starts_the_window_anew() -> None:
    watched = monitor(window=3)
    assert feed(watched, *(scores(0.5, missing) for missing in (4, 4, 1, 4, 4))) == ["none"] * 5
    assert feed(watched, scores(0.5, 4)) == ["stop"]


def test_a_stop_outranks_a_warning() -> None:
    watched = monitor()
    assert feed(watched, scores(0.5, 4), scores(0.5, 0), scores(0.9, 4), scores(0.9, 4))[-1] == "stop"


def test_the_state_goes_round() -> None:
    batches = [scores(probe, missing) for probe, missing in [(0.5, 0), (0.6, 0), (0.9, 2), (0.9, 4), (0.5, 4)]]
    whole = monitor()
    expected = feed(whole, *batches)
    assert {"warn", "stop", "none"} >= set(expected) > {"none"}
    for cut in range(len(batches)):
        first, second = monitor(), monitor()
        before = feed(first, *batches[:cut])
        state: Any = first.state()
        second.load_state(state)
        assert before + feed(second, *batches[cut:]) == expected
        assert second.state() == whole.state()


def test_agreement_by_hand() -> None:
    right, wrong = Score(1.0, details={"correct": True}), Score(0.0, details={"correct": False})
    probe = [Score(0.9), Score(0.4), Score(0.8), Score(0.1), Score(None), Score(1.0)]
    truth = [right, right, wrong, wrong, right, Score(None, "unreadable label")]
    # the last two say nothing. Mean (0.9 + 0.4 + 0.8 + 0.1) / 4 = 0.55, right 2/4; hits: 0.9 and 0.1
    found = agreement(probe, truth)
    assert found["mean"] == pytest.approx(0.55, abs=1e-6)
    assert found["gap"] == pytest.approx(0.05, abs=1e-6)
    assert {key: found[key] for key in ("verified_mean", "accuracy", "false_positive_rate", "false_negative_rate")} == {
        "verified_mean": 0.5, "accuracy": 0.5, "false_positive_rate": 0.5, "false_negative_rate": 0.5,
    }  # fmt: skip
    assert agreement([Score(None)], [right]) == {}
    assert "false_positive_rate" not in agreement([Score(0.9)], [right])


def test_a_probe_without_a_verified_stream_is_left_alone() -> None:
    watched = Monitor(MonitorRules(2, 0.25, 0.5), [JUDGED], [PROBE], None)
    assert watched.observe({key: value for key, value in scores(0.9).items() if key[0] == "judge"})[0] == {}
