import math

import numpy as np
import pytest

from yonder.core.statistics import (
    bootstrap_mean,
    clustered_share,
    combined,
    mcnemar,
    mean_std,
    pass_at_k,
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
