"""Best of n by hand and against every subset."""

import random
from itertools import combinations

import pytest

from yonder.core.best_of import best_of_n
from yonder.core.statistics import pass_at_k


def test_by_hand() -> None:
    # scores .9 .8 .5 .2, right: .9 no, .8 yes, .5 yes, .2 no; 6 subsets of two. The best of a subset is .9 in three
    # (wrong), .8 in two (right), .5 in one (right): 3 of 6 right; drawn at random 2 of 4; {.9, .2} alone has none right
    found = best_of_n([0.9, 0.8, 0.5, 0.2], [False, True, True, False], 2)
    assert found is not None
    assert (found.chosen, found.drawn, found.oracle) == pytest.approx((0.5, 0.5, 5 / 6))
    assert found.lift == pytest.approx(0.0)
    # of three: the best is .9 in three of four subsets, .8 in one
    assert best_of_n([0.9, 0.8, 0.5, 0.2], [False, True, True, False], 3) == pytest.approx((0.25, 0.5, 1.0))


def test_equals_share_the_choice() -> None:
    # 1 right and 1 wrong at .7, one wrong at .1: subsets {.7, .7}, {.7 right, .1}, {.7 wrong, .1}: (1/2 + 1 + 0) / 3
    assert best_of_n([0.7, 0.1, 0.7], [True, False, False], 2) == pytest.approx((0.5, 1 / 3, 2 / 3))
    assert best_of_n([0.5] * 4, [True, False, False, False], 3) == pytest.approx((0.25, 0.25, 0.75))  # nothing chosen


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_the_closed_form_is_the_mean_over_all_subsets(n: int) -> None:
    rng = random.Random(n)
    scores = [rng.choice([0.1, 0.4, 0.4, 0.8]) for _ in range(7)]
    labels = [rng.random() < 0.5 for _ in range(7)]

    def chosen(subset: tuple[int, ...]) -> float:
        best = max(scores[i] for i in subset)
        top = [labels[i] for i in subset if scores[i] == best]
        return sum(top) / len(top)

    subsets = list(combinations(range(7), n))
    found = best_of_n(scores, labels, n)
    assert found is not None
    assert found.chosen == pytest.approx(sum(map(chosen, subsets)) / len(subsets))
    assert found.drawn == pytest.approx(sum(labels) / 7)
    assert found.oracle == pytest.approx(sum(any(labels[i] for i in s) for s in subsets) / len(subsets))
    assert found.oracle == pass_at_k(7, sum(labels), n)


def test_too_few_responses() -> None:
    assert best_of_n([0.1, 0.2], [True, False], 3) is None
    assert best_of_n([], [], 1) is None
