import math
import random

import pytest

from yonder.core import calibration as c

# four responses: right 0.9, wrong 0.6, right 0.4, wrong 0.2
SCORES, LABELS = [0.9, 0.6, 0.4, 0.2], [True, False, True, False]


def test_rates_at_delta():
    # at 0.5: right 0.9 and wrong 0.2 are judged well: 2 of 4; wrong 0.6 passes: 1 of 2; right 0.4 is refused: 1 of 2
    assert c.accuracy_at(SCORES, LABELS, 0.5) == 0.5
    assert c.false_positive_rate(SCORES, LABELS, 0.5) == 0.5
    assert c.false_negative_rate(SCORES, LABELS, 0.5) == 0.5
    # a score equal to delta is accepted (eq. 2 of [J]: zero BELOW delta)
    assert c.false_positive_rate(SCORES, LABELS, 0.6) == 0.5
    assert c.false_negative_rate(SCORES, LABELS, 0.4) == 0.0
    assert c.false_positive_rate(SCORES, LABELS, 0.61) == 0.0


def test_ranking():
    # right-wrong pairs: .9>.6, .9>.2, .4<.6, .4>.2: 3 of 4
    assert c.auroc(SCORES, LABELS) == pytest.approx(0.75)
    # precision 1/1 at the first right one and 2/3 at the second: (1 + 2/3) / 2
    assert c.auprc(SCORES, LABELS) == pytest.approx(5 / 6)
    assert c.auroc([0.5, 0.5], [True, False]) == 0.5  # a tie counts half


def test_auroc_interval_by_hand():
    # A = .75, 2 right, 2 wrong: Q1 = .75 / 1.25 = .6, Q2 = 2 * .5625 / 1.75 = .642857;
    # .1875 + (.6 - .5625) + (.642857 - .5625) = .305357; 1.959964 * sqrt(.305357 / 4) = .541529
    found = c.auroc_interval(0.75, 2, 2)
    assert (found.value, found.n) == (0.75, 4)
    assert (found.low, found.high) == pytest.approx((0.75 - 0.541529, 1.0), abs=1e-6)  # cut at 1
    # A = .6, 200 right, 100 wrong: Q1 = .428571, Q2 = .45; .24 + 199 * .068571 + 99 * .09 = 22.795714;
    # 1.959964 * sqrt(22.795714 / 20000) = .066170
    found = c.auroc_interval(0.6, 200, 100)
    assert (found.low, found.high) == pytest.approx((0.6 - 0.066170, 0.6 + 0.066170), abs=1e-5)
    assert not c.auroc_interval(0.0, 3, 3).bounded and not c.auroc_interval(1.0, 1, 1).bounded
    with pytest.raises(ValueError, match="0 right"):
        c.auroc_interval(0.5, 0, 4)


def test_brier_and_ece_by_hand():
    # squares: .01 + .36 + .36 + .04 = .77
    assert c.brier(SCORES, LABELS) == pytest.approx(0.77 / 4)
    # two bins: {.2, .4}: mean .3, share right .5, gap .2; {.6, .9}: mean .75, share .5, gap .25: (.2 + .25) / 2
    assert c.ece(SCORES, LABELS, bins=2) == pytest.approx(0.225)
    low, high = c.reliability_bins(SCORES, LABELS, bins=2)
    assert low == pytest.approx((0.2, 0.4, 0.3, 0.5, 2)) and high == pytest.approx((0.6, 0.9, 0.75, 0.5, 2))


def test_bins_have_equal_mass_and_keep_ties_together():
    generator = random.Random(0)
    scores = [generator.random() for _ in range(150)]
    rows = c.reliability_bins(scores, [True] * 150)
    assert [row.n for row in rows] == [10] * 15
    saturated = [0.0] * 7 + [1.0] * 3
    labels = [False] * 6 + [True] * 4
    rows = c.reliability_bins(saturated, labels, bins=5)
    assert [(row.low, row.high, row.n) for row in rows] == [(0.0, 0.0, 7), (1.0, 1.0, 3)]
    turned = c.ece(saturated[::-1], labels[::-1], bins=5)
    assert c.ece(saturated, labels, bins=5) == turned == pytest.approx(0.1)  # 7/10 * |1/7 - 0| + 3/10 * 0


def test_pairs_are_drawn_within_a_question():
    ids = ["a", "a", "a", "b", "b", "c", "d", "d"]
    labels = [True, False, False, False, True, True, False, False]
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    seen = {tuple(c.pair_within_question(ids, scores, labels, seed)) for seed in range(20)}
    # a has one right (0.1) and two wrong ones; b one of each; c and d have one kind only
    assert seen == {((0.1, 0.2), (0.5, 0.4)), ((0.1, 0.3), (0.5, 0.4))}
    assert c.pair_within_question(ids, scores, labels, 3) == c.pair_within_question(ids, scores, labels, 3)


def test_pairwise_accuracy_counts_ties_half():
    assert c.pairwise_accuracy([(0.9, 0.1), (0.3, 0.3), (0.2, 0.7)]) == 0.5  # (1 + 1/2 + 0) / 3


def test_temperature_by_hand():
    # gaps +-1, three of four agree with the label: sigmoid(1 / tau) = 3/4 at the optimum, so tau = 1 / ln 3
    gaps, labels = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0], [True] * 3 + [False] * 4 + [True]
    assert c.fit_temperature(gaps, labels) == pytest.approx(1 / math.log(3), rel=1e-4)
    assert c.fit_temperature([7 * gap for gap in gaps], labels) == pytest.approx(7 / math.log(3), rel=1e-4)


@pytest.mark.parametrize(
    ("gaps", "labels"),
    [
        ([], []),
        ([1.0, -1.0], [True, True]),  # one class
        ([2.0, -2.0], [True, False]),  # perfectly separated: tau would go to 0
        ([2.0, -2.0], [False, True]),  # upside down: tau would go to infinity
    ],
)
def test_temperature_without_an_optimum(gaps: list[float], labels: list[bool]):
    assert c.fit_temperature(gaps, labels) is None


def test_suggested_delta():
    # wrong: 0.6 and 0.2. No wrong one at 0.9; one of two from 0.4 on; both at 0.2
    assert c.suggest_delta(SCORES, LABELS, 0.0) == 0.9
    assert c.suggest_delta(SCORES, LABELS, 0.5) == 0.4
    assert c.suggest_delta(SCORES, LABELS, 1.0) == 0.4  # 0.2 accepts everything
    assert c.suggest_delta([0.01, 0.5, 0.9, 0.95], [False, False, True, True], 0.5) == 0.9  # not as lax as allowed
    for rate in (0.0, 0.3, 0.5):
        delta = c.suggest_delta(SCORES, LABELS, rate)
        assert delta is not None and (c.false_positive_rate(SCORES, LABELS, delta) or 0) <= rate
    assert c.suggest_delta([0.9, 0.4], [False, True], 0.0) is None  # the best score is wrong
    assert c.suggest_delta([0.9], [True], 0.1) is None  # no wrong response: nothing to measure


def test_undefined_is_none():
    assert c.accuracy_at([], [], 0.5) is c.brier([], []) is c.ece([], []) is c.pairwise_accuracy([]) is None
    assert c.reliability_bins([], []) == []
    for labels in ([True, True], [False, False], []):
        scores = [0.3] * len(labels)
        assert c.auroc(scores, labels) is c.auprc(scores, labels) is None
    assert c.false_positive_rate([0.3], [True], 0.5) is None
    assert c.false_negative_rate([0.3], [False], 0.5) is None
