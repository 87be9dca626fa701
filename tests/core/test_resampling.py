"""Figures under resampled questions: the same numbers as `core.calibration` on the responses written out."""

import random
import time

import numpy as np
import pytest

from yonder.core import calibration
from yonder.core.resampling import Figures, figures, of_tally, resampled, tally
from yonder.core.statistics import wilson

SCORES = [0.1, 0.4, 0.4, 0.6, 0.6, 0.9, 0.5]
LABELS = [False, False, True, True, False, True, False]


def plain(scores: list[float], labels: list[bool], delta: float) -> dict[str, float | None]:
    return {
        "auroc": calibration.auroc(scores, labels),
        "auprc": calibration.auprc(scores, labels),
        "accuracy": calibration.accuracy_at(scores, labels, delta),
        "false_positive_rate": calibration.false_positive_rate(scores, labels, delta),
        "false_negative_rate": calibration.false_negative_rate(scores, labels, delta),
        "brier": calibration.brier(scores, labels),
        "ece": calibration.ece(scores, labels),
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_response_written_as_often(seed: int) -> None:
    rng = random.Random(seed)
    weights = [rng.randrange(4) for _ in SCORES]
    weights[1] = weights[3] = 2  # of both classes
    scores = [score for score, weight in zip(SCORES, weights, strict=True) for _ in range(weight)]
    labels = [label for label, weight in zip(LABELS, weights, strict=True) for _ in range(weight)]
    found = of_tally(tally(np.array([weights, [1] * 7], dtype=float), SCORES, LABELS), 0.5)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(plain(scores, labels, 0.5))
    assert {name: values[1] for name, values in found.items()} == pytest.approx(plain(SCORES, LABELS, 0.5))
    assert set(found) == set(Figures._fields)


def test_one_class_in_a_resample_has_no_rank_figures() -> None:
    found = of_tally(tally(np.array([[0.0, 0, 1, 1, 0, 1, 0]]), SCORES, LABELS), 0.5)  # right ones only
    assert all(np.isnan(found[name][0]) for name in ("auroc", "auprc", "false_positive_rate"))
    assert found["false_negative_rate"][0] == pytest.approx(1 / 3) and found["accuracy"][0] == pytest.approx(2 / 3)


def test_questions_are_drawn_whole() -> None:
    # two questions, all of one right at .9, all of the other wrong at .8: a resample has accuracy 0, 1/2 or 1
    ids, scores, labels = ["a"] * 3 + ["b"] * 3, [0.9] * 3 + [0.8] * 3, [True] * 3 + [False] * 3
    drawn = resampled(ids, scores, labels, 0.5, seed=0, resamples=400)["accuracy"]
    assert set(drawn) == {0.0, 0.5, 1.0}
    assert np.mean(drawn == 0.5) == pytest.approx(0.5, abs=0.08)  # a,b or b,a of four
    found = figures(ids, scores, labels, 0.5)
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.high, found.accuracy.n) == (0.5, 0.0, 1.0, 2)


def many(questions: int, each: int, seed: int = 0) -> tuple[list[str], list[float], list[bool]]:
    rng = np.random.default_rng(seed)
    ids = [f"q{i}" for i in range(questions) for _ in range(each)]
    scores = rng.random(len(ids))
    return ids, scores.tolist(), (rng.random(len(ids)) < scores).tolist()  # a calibrated judge


def test_clusters_widen_what_repeats() -> None:
    """The same response ten times is one response."""
    ids, scores, labels = many(100, 1)
    once = figures(ids, scores, labels, 0.5)
    repeated = figures(ids * 10, scores * 10, labels * 10, 0.5)
    for one, ten in zip(once, repeated, strict=True):
        assert one is not None and ten is not None
        assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))
        assert ten.n == one.n  # questions
    as_questions = figures([str(i) for i in range(1000)], scores * 10, labels * 10, 0.5)
    assert once.accuracy and as_questions.accuracy
    width = once.accuracy.high - once.accuracy.low
    assert as_questions.accuracy.high - as_questions.accuracy.low == pytest.approx(width / 10**0.5, rel=0.2)


def test_the_interval_of_a_mean_is_the_one_that_theory_gives() -> None:
    ids, scores, labels = many(400, 1)
    found = figures(ids, scores, labels, 0.5).accuracy
    assert found is not None
    half = 1.96 * (found.value * (1 - found.value) / 400) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.12)


def test_a_calibrated_judge_may_have_no_calibration_error() -> None:
    lows = [figures(*many(150, 2, seed), 0.5).ece for seed in range(5)]
    assert all(found is not None and found.low <= found.value for found in lows)
    assert sum(found is not None and found.low < 0.03 for found in lows) >= 4


def test_a_rate_that_is_never_met_is_not_surely_zero() -> None:
    ids = [f"q{i}" for i in range(20) for _ in range(2)]
    found = figures(ids, [0.9, 0.1] * 20, [True, False] * 20, 0.5)
    assert found.false_positive_rate == wilson(0, 20) and found.accuracy == wilson(20, 20)
    assert figures(ids, [0.9] * 40, [True] * 40, 0.5).false_positive_rate is None
    assert figures([], [], [], 0.5) == Figures(*[None] * 7)


def test_a_figure_that_no_resample_changes_has_no_bounds() -> None:
    found = figures(["a", "b"], [0.9, 0.1], [True, False], 0.5)
    assert found.auroc is not None and found.auroc.value == 1.0 and not found.auroc.bounded
    assert found.accuracy == wilson(2, 2)


def test_the_same_seed_gives_the_same_interval_and_2000_responses_take_no_time() -> None:
    data = many(200, 10)
    figures(*data, 0.5, resamples=2)  # imports
    start = time.process_time()
    first = figures(*data, 0.5, seed=3)
    assert time.process_time() - start < 2
    assert first == figures(*data, 0.5, seed=3) != figures(*data, 0.5, seed=4)
