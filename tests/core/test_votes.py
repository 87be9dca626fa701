import math

import pytest

from yonder.core.votes import Answer, majority, same


@pytest.mark.parametrize(
    ("answers", "answer", "count", "ties"),
    [
        ([14.0, 12.0, 14.0], 14.0, 2, False),
        ([0.333, 0.3333, 0.5, 0.5, 0.3333], 0.3333, 3, False),  # merged first; the most frequent spelling is returned
        (["C", "A", "C"], "C", 2, False),
        (["B", "A", "A", "B"], "B", 2, True),  # tie: first seen
        ([2.0, 1.0], 2.0, 1, True),
        ([None, None, 5.0], 5.0, 1, False),
        ([float("nan"), float("inf"), 5.0], 5.0, 1, False),
        ([1e9, 1e9 + 500, 3.0], 1e9, 2, False),  # 500 <= 1e-6 * 1e9
        ([1.0, 1.011], 1.0, 1, True),  # further apart than 0.01
    ],
)
def test_majority(answers: list[Answer | None], answer: Answer, count: int, ties: bool):
    vote = majority(answers, 0.01)
    assert (vote.answer, vote.count, vote.ties) == (answer, count, ties)


def test_groups_do_not_chain():
    # 1.000, 1.008, 1.016: each is close to the next, but the ends are 0.016 apart; 1.008 leads, both join it
    assert majority([1.0, 1.008, 1.008, 1.016], 0.01).count == 4
    # led by 1.000, the far end stays outside
    assert majority([1.0, 1.0, 1.008, 1.016], 0.01).count == 3


def test_order_does_not_matter_without_ties():
    answers: list[Answer | None] = [3.0, 3.001, 3.001, 7.0, None]
    first, second = majority(answers, 0.01), majority(answers[::-1], 0.01)
    assert first == second


def test_figures_of_a_vote():
    # 3 x A, 1 x B, 1 missing: share 3/5 of all; entropy of (3/4, 1/4) = 0.562335
    vote = majority(["A", "A", None, "B", "A"], 0.0)
    assert (vote.count, vote.missing) == (3, 1)
    assert vote.share == pytest.approx(0.6)
    assert vote.entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert str(majority(["A", "A"], 0.0).entropy) == "0.0"


def test_nothing_to_vote_on():
    for answers in ([], [None, None]):
        vote = majority(answers, 0.01)
        assert (vote.answer, vote.count, vote.share, vote.ties, vote.missing) == (None, 0, 0.0, False, len(answers))


def test_strings_and_numbers_never_agree():
    assert not same("3", 3.0, 0.01)
    assert not same("A", "a", 0.01)
    assert same(0.30, 0.305, 0.01) and not same(0.30, 0.32, 0.01)
