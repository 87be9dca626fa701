"""Means over seeds and questions, worked out by hand."""

import math

import pytest
from scipy import stats

from yonder.core.spread import crossed_mean, difference, mean_of, share
from yonder.core.statistics import wilson


def test_seeds_and_questions_that_both_vary() -> None:
    # mean 3.5; seeds 1, 6; questions 2, 5. MS_s = 2 (2.5^2 + 2.5^2) / 1 = 25, MS_q = 2 (1.5^2 + 1.5^2) / 1 = 9,
    # what is left is +-0.5 everywhere: MS_e = 4 * 0.25 / 1 = 1. Var = (25 + 9 - 1) / 4 = 8.25,
    # df = 33^2 / (25^2 + 9^2 + 1^2) = 1089 / 707
    found = crossed_mean([[0, 2], [4, 8]])
    df = 1089 / 707
    half = stats.t.ppf(0.975, df) * math.sqrt(8.25)
    assert found.value == 3.5
    assert (found.low, found.high) == pytest.approx((3.5 - half, 3.5 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(3.5 / math.sqrt(8.25), df))


def test_a_mean_square_below_the_rest_counts_as_the_rest() -> None:
    # mean 0.75; seeds 0.5, 1; questions 1, 0.5; all three mean squares are 0.25: Var = 0.25 / 4, df = 1.
    # Student's quantile at one degree of freedom is tan(0.475 pi) = 12.7062; t = 0.75 / 0.25 = 3
    found = crossed_mean([[1, 0], [1, 1]])
    assert found.high - found.value == pytest.approx(0.25 * math.tan(0.475 * math.pi))
    assert found.p == pytest.approx(1 - 2 * math.atan(3) / math.pi)


def test_more_seeds_do_not_make_the_same_questions_new_ones() -> None:
    """Equal answers under every seed: the interval is that of the questions alone, as with one seed."""
    one = [0.0, 1.0, 1.0, 0.0, 1.0]
    # MS_s = MS_e = 0, MS_q = 3 * var: Var(mean) = 3 var / (3 * 5) = var / 5
    three, alone = crossed_mean([one, one, one]), mean_of(one)
    assert (three.low, three.high, three.p) == pytest.approx((alone.low, alone.high, alone.p))
    # mean 0.6, var 5 * 0.24 / 4 = 0.3, error sqrt(0.06), 4 degrees of freedom
    assert alone.high == pytest.approx(0.6 + stats.t.ppf(0.975, 4) * math.sqrt(0.06))


def test_the_interval_holds_the_truth_95_times_in_100() -> None:
    """Effects of 3 seeds and 40 questions drawn anew 400 times."""
    import numpy as np

    generator = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        seeds, questions = generator.normal(0, 0.2, (3, 1)), generator.normal(0, 0.5, (1, 40))
        found = crossed_mean((seeds + questions + generator.normal(0, 0.5, (3, 40))).tolist())
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 400 <= 0.995


def test_a_share_stays_within_0_and_1_and_is_never_without_width() -> None:
    assert share([[1.0] * 20, [1.0] * 20], True)[:3] == (1.0, wilson(20, 20).low, 1.0)
    alone = share([[1.0, 0.0, 1.0]], True)
    assert (alone.low, alone.high) == (wilson(2, 3).low, wilson(2, 3).high)
    few = share([[1.0, 1.0], [1.0, 0.0]], True)
    assert (few.low, few.high) == (0.0, 1.0)


def test_where_questions_differ_between_seeds_the_seeds_say_what_varies() -> None:
    # seeds 0.5, 0.75: mean 0.625, sd 0.25 / sqrt 2, error sd / sqrt 2 = 0.125, one degree of freedom
    found = difference([[1, 0, 1, 0], [1, 1, 1, 0]], False)
    assert found is not None
    assert found.value == 0.625
    assert found.p == pytest.approx(1 - 2 * math.atan(5) / math.pi)


def test_no_difference_at_all_is_not_certainty() -> None:
    found = difference([[0.0] * 30, [0.0] * 30], True)
    assert found is not None
    assert (found.low, found.high, found.p) == (-wilson(0, 30).high, wilson(0, 30).high, None)
    assert difference([[1.0]], True) is None


@pytest.mark.parametrize("values", [[[1.0, 0.0]], [[1.0], [0.0]]])
def test_one_seed_or_one_question_has_no_crossed_mean(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="both must be at least 2"):
        crossed_mean(values)
