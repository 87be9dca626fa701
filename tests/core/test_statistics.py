import math

import numpy as np
import pytest

from yonder.core.statistics import (
    bootstrap_mean,
    clustered_share,
    combined,
    mcnemar,
    mean_pass_at_k,
    mean_std,
    paired_difference,
    pass_at_k,
    t_interval,
    wilson,
)
from yonder.schema import Interval


def test_wilson_by_hand():
    # p = 0.8, n = 10, z^2 = 3.841459: scale = 1.3841459; centre = (0.8 + 0.19207295) / 1.3841459 = 0.716740
    # half = 1.959964 * sqrt(0.016 + 3.841459 / 400) / 1.3841459 = 1.959964 * 0.160010 / 1.3841459 = 0.226577
    interval = wilson(8, 10)
    assert interval.value == 0.8
    assert interval.low == pytest.approx(0.490163, abs=1e-5)
    assert interval.high == pytest.approx(0.943318, abs=1e-5)
    assert interval.n == 10


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (1, 7), (88, 100), (200, 200), (660, 1319)])
def test_wilson_agrees_with_scipy(successes: int, n: int):
    from scipy.stats import binomtest

    expected = binomtest(successes, n).proportion_ci(method="wilson")
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_at_the_edges():
    empty = wilson(0, 0)
    assert math.isnan(empty.value) and (empty.low, empty.high, empty.n) == (0.0, 1.0, 0)
    assert wilson(0, 4).low == 0.0 and wilson(4, 4).high == 1.0
    assert wilson(1.5, 3).value == 0.5  # one win, one tie of three pairs
    for successes in (-1, 4):
        with pytest.raises(ValueError, match="in 3 trials"):
            wilson(successes, 3)


def test_a_clustered_share_by_hand():
    # p = 0.5; residuals of the clusters +1 and -1; V = (1 + 1) / 16 = 0.125; p (1 - p) / V = 2 trials, not 4
    found = clustered_share([1, 1, 0, 0], "aabb")
    assert found == Interval(0.5, wilson(1, 2).low, wilson(1, 2).high, 4)
    # p = 0.6; residuals a: 2 * 0.4 = 0.8, b: 0.4 - 0.6 = -0.2, c: -0.6; V = (0.64 + 0.04 + 0.36) / 25 = 0.0416
    # trials 0.24 / 0.0416 = 5.77, at most 5: clusters never add knowledge
    assert clustered_share([1, 1, 1, 0, 0], "aabbc").low == pytest.approx(wilson(3, 5).low)
    assert clustered_share([1, 0, 1, 1], "abcd").low == pytest.approx(wilson(3, 4).low)  # one each: no clusters
    assert clustered_share([0.5, 0.25, 0.75, 0.5], "abcd").n == 4


def test_a_clustered_share_at_the_edges():
    same = clustered_share([1.0] * 6, "aaabbb")  # nothing varies: as if each cluster were one trial
    assert (same.value, same.low, same.high, same.n) == (1.0, wilson(2, 2).low, 1.0, 6)
    assert clustered_share([1, 0, 1, 0], "aabb").low == wilson(1, 2).low  # the clusters do not differ
    empty = clustered_share([], [])
    assert math.isnan(empty.value) and (empty.low, empty.high, empty.n) == (0.0, 1.0, 0)
    with pytest.raises(ValueError, match="zip"):
        clustered_share([1, 0], "a")


def test_a_clustered_share_holds_the_truth_as_often_as_it_says():
    """The figures of docs/judges.md: prompts whose chance is Beta(4, 2), mean 2/3, with nine comparisons each."""
    generator = np.random.default_rng(0)
    prompts = [prompt for prompt in range(150) for _ in range(9)]
    held = naive = 0
    for _ in range(600):
        chance = generator.beta(4, 2, 150)[:, None]
        values = (generator.random((150, 9)) < chance).ravel().astype(float).tolist()
        found, alone = clustered_share(values, prompts), wilson(sum(values), 1350)
        held += found.low <= 2 / 3 <= found.high
        naive += alone.low <= 2 / 3 <= alone.high
    assert (held, naive) == (pytest.approx(570, abs=15), pytest.approx(510, abs=25))  # 95 % and 85 % of 600


def test_combined_by_hand():
    parts = [Interval(0.5, 0.4, 0.6, 10), Interval(0.7, 0.5, 0.8, 20)]
    # the mean moves by 0.05 and 0.1 below: root of 0.0025 + 0.01 = 0.111803; above by 0.05 and 0.05: 0.070711
    found = combined(lambda values: sum(values) / 2, parts)
    assert (found.value, found.n) == (pytest.approx(0.6), 30)
    assert (found.low, found.high) == pytest.approx((0.6 - 0.111803, 0.6 + 0.070711), abs=1e-6)
    wide = combined(lambda values: sum(values) / 2, parts, dependent=True)
    assert (wide.low, wide.high) == pytest.approx((0.45, 0.7))
    alone = combined(lambda values: values[0], parts[:1])
    assert (alone.low, alone.high) == pytest.approx((0.4, 0.6))


def test_bootstrap_mean():
    values = [0.0, 1.0] * 200
    found = bootstrap_mean(values, seed=1)
    # standard error of the mean = 0.5 / sqrt(400) = 0.025; 1.96 * 0.025 = 0.049
    assert found.value == 0.5 and found.n == 400
    assert found.low == pytest.approx(0.451, abs=0.006) and found.high == pytest.approx(0.549, abs=0.006)
    assert bootstrap_mean(values, seed=1) == found
    assert bootstrap_mean(values, seed=2) != found
    assert math.isnan(bootstrap_mean([], seed=0).low)
    same = bootstrap_mean([0.1] * 3, seed=0)  # no resample differs, which is not certainty
    assert same.value == pytest.approx(0.1) and not same.bounded and found.bounded


def test_mean_std():
    # mean 4; squares 4 + 0 + 4 = 8; 8 / (3 - 1) = 4; root 2
    assert mean_std([2, 4, 6]) == (4.0, 2.0, 3)
    assert mean_std([3.0]) == (3.0, None, 1)
    assert mean_std([]) == (None, None, 0)


def test_pass_at_k_by_hand():
    # n = 5, c = 2, k = 2: pairs without a right one C(3, 2) = 3 of C(5, 2) = 10
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert pass_at_k(5, 4, 2) == 1.0  # any two hold a right one
    assert pass_at_k(5, 0, 5) == 0.0
    for n, c, k in [(5, 6, 1), (5, 2, 6), (5, 2, 0)]:
        with pytest.raises(ValueError):
            pass_at_k(n, c, k)


def test_mcnemar_by_hand():
    # they differ on 6 questions, 1 for a and 5 for b: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64
    a = [True] + [False] * 5 + [True, False]
    b = [False] + [True] * 5 + [True, False]
    assert mcnemar(a, b) == pytest.approx(14 / 64)
    assert mcnemar(b, a) == pytest.approx(14 / 64)
    assert mcnemar([True, False], [True, False]) == 1.0
    with pytest.raises(ValueError):
        mcnemar([True], [True, False])


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 5), (0, 3), (7, 7), (30, 12)])
def test_mcnemar_agrees_with_the_binomial_sum(only_a: int, only_b: int):
    # twice the smaller tail of a fair coin thrown only_a + only_b times, at most 1
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n
    a = [True] * only_a + [False] * only_b
    assert mcnemar(a, [not x for x in a]) == pytest.approx(min(1.0, 2 * tail))


def test_the_bootstrap_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).beta(2, 5, 300)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    ours = bootstrap_mean(values.tolist(), seed=1, resamples=4000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_mean_pass_at_k_by_hand():
    # pass@2 of (5, 2) is 0.7, of (4, 0) 0, of (3, 3) 1: mean 1.7 / 3
    found = mean_pass_at_k([(5, 2), (4, 0), (3, 3)], 2, seed=0)
    assert (found.value, found.n) == (pytest.approx(1.7 / 3), 3)
    assert found.low == 0.0 and found.high == 1.0  # all drawn thrice: more than 1 in 27 of the resamples
    assert mean_pass_at_k([(5, 0), (5, 0)], 3, seed=0) == wilson(0, 2)  # nothing to resample
    assert mean_pass_at_k([(5, 5), (5, 5)], 3, seed=0) == wilson(2, 2)
    assert mean_pass_at_k([], 3, seed=0).n == 0


def test_pass_at_k_is_the_share_of_all_subsets_that_hold_a_right_one():
    from itertools import combinations

    for n, c, k in [(6, 2, 3), (7, 1, 4), (5, 4, 1), (6, 5, 3)]:
        subsets = list(combinations([1] * c + [0] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(max, subsets)) / len(subsets))


def test_a_t_interval_by_hand_and_by_scipy():
    # mean 0.5, std 0.1, n 3: t(0.975; 2) = 4.302653; half = 4.302653 * 0.1 / sqrt(3) = 0.248414
    found = t_interval([0.4, 0.5, 0.6])
    assert (found.value, found.n) == (pytest.approx(0.5), 3)
    assert (found.low, found.high) == pytest.approx((0.251586, 0.748414), abs=1e-6)
    from scipy.stats import ttest_1samp

    values = [0.21, 0.3, 0.28, 0.24]
    theirs = ttest_1samp(values, 0.0).confidence_interval()
    assert (t_interval(values).low, t_interval(values).high) == pytest.approx((theirs.low, theirs.high))
    assert t_interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0, 2)  # cut
    assert t_interval([0.3]) == Interval(0.3, 0.0, 1.0, 1)
    assert math.isnan(t_interval([]).value)
    same = t_interval([0.7, 0.7, 0.7])
    assert same.value == pytest.approx(0.7) and same.n == 3 and not same.bounded


def test_a_paired_difference_by_hand():
    # n = 8, only a 1, only b 5: centre 4 / 10 = 0.4; half = 1.959964 * sqrt(7 / 10 - 0.16) / sqrt(10)
    #   = 1.959964 * 0.734847 / 3.162278 = 0.455456
    a = [True] + [False] * 5 + [True, False]
    b = [False] + [True] * 5 + [True, False]
    found = paired_difference(a, b)
    assert (found.value, found.n) == (0.5, 8)
    assert (found.low, found.high) == pytest.approx((0.4 - 0.455456, 0.4 + 0.455456), abs=1e-5)
    back = paired_difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-0.5, -found.high, -found.low))
    same = paired_difference([True] * 20, [True] * 20)  # no flips: still not certain
    assert same.value == 0.0 and same.low == pytest.approx(-same.high) and 0.05 < same.high < 0.15
    assert paired_difference([], []).n == 0
    with pytest.raises(ValueError):
        paired_difference([True], [])


def test_a_paired_difference_holds_the_truth_as_often_as_it_says():
    # 200 questions; a right with 0.5; b keeps what a had with 0.9 and mends what it had not with 0.2: truth +0.05
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        a = generator.random(200) < 0.5
        b = generator.random(200) < np.where(a, 0.9, 0.2)
        found = paired_difference(a.tolist(), b.tolist())
        held += found.low <= 0.05 <= found.high
    assert held == pytest.approx(475, abs=15)
