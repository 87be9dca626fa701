"""Labels from votes, by hand."""

import pytest

from yonder.core.labels import (
    LOW_SHARE,
    NO_ANSWER,
    NO_RESPONSE,
    TIE,
    Label,
    agree,
    drawn,
    histogram,
    label_of_votes,
    other_answer,
)
from yonder.core.votes import Answer
from yonder.rewards.verifiable import equal


@pytest.mark.parametrize(
    ("answers", "floor", "answer", "why", "share"),
    [
        ([3.0, 3.0, 4.0, None], 0.5, 3.0, "", 0.5),  # 2 of 4: the unreadable one counts below the line
        ([3.0, 3.0, 4.0, None], 0.51, None, LOW_SHARE, 0.5),
        ([3.0, 4.0, None], 0.0, None, TIE, 1 / 3),
        ([None, None], 0.0, None, NO_ANSWER, 0.0),
        ([], 0.0, None, NO_RESPONSE, 0.0),
        ([3.0, 3.004, 4.0], 0.5, 3.0, "", 2 / 3),  # equal within the tolerance
        (["A", "B", "B"], 0.5, "B", "", 2 / 3),
        ([2.5e6, 2.5e6 + 1, 2.5e6], 0.5, 2.5e6, "", 2 / 3),  # large and near is not equal
        ([0.1 + 0.2, 0.3, 4.0], 0.5, 0.1 + 0.2, "", 2 / 3),
    ],
)
def test_a_vote_is_a_label_or_says_why_not(
    answers: list[Answer | None], floor: float, answer: Answer | None, why: str, share: float
) -> None:
    found = label_of_votes(answers, 0.01, floor)
    assert (found.answer, found.why) == (answer, why)
    assert found.vote.share == pytest.approx(share)


def test_a_wrong_vote_is_the_second_most_frequent_answer_or_one_that_nobody_gave() -> None:
    assert other_answer(3.0, [3.0, 5.0, 4.0, 4.0, 3.0, None], 0.01, 0) == 4.0
    assert other_answer(3.0, [3.001, 5.0, 4.0], 0.01, 0) == 5.0  # 3.001 is the label; of equals the first
    assert other_answer(3.0, [3.0], 0.01, 0) == 4.0
    assert other_answer(2.5e6, [2.5e6 + 1, 4.0], 0.01, 0) == 2.5e6 + 1
    assert other_answer(3.0, [], 5.0, 0) == 13.0  # further away than the tolerance
    assert other_answer("B", ["B", "D"], 0.01, 4) == "D"
    assert other_answer("D", ["D", None], 0.01, 4) == "A"


def test_a_share_is_exact_and_part_of_a_larger_one() -> None:
    keys = [f"q{i}" for i in range(40)]
    parts = [drawn(keys, share, seed=1) for share in (0.0, 0.1, 0.2, 0.3)]
    assert [len(part) for part in parts] == [0, 4, 8, 12]
    assert parts[1] < parts[2] < parts[3]
    assert drawn(keys, 0.2, seed=1) == parts[2]
    assert drawn(keys, 0.2, seed=2) != parts[2]
    assert drawn(keys[:9] + keys[9:], 0.2, seed=1) == drawn(keys[::-1], 0.2, seed=1)


def test_a_histogram_of_shares() -> None:
    assert histogram([0.0, 0.05, 0.1, 0.3, 0.7, 0.99, 1.0]) == [2, 1, 0, 1, 0, 0, 0, 1, 0, 2]


def test_a_label_that_was_dropped_has_no_answer() -> None:
    assert Label(label_of_votes([1.0], 0.0, 0.0).vote, TIE).answer is None


def test_what_is_one_vote_is_equal_to_the_verifier() -> None:
    numbers = [0.0, 0.3, 0.1 + 0.2, 0.305, 1e4, 1e4 + 0.5, 1e9, 1e9 + 500, 1e9 + 1e-6, -1e9]
    assert agree(0.3, 0.1 + 0.2, 0.0) and agree(0.3, 0.305, 0.01)
    for tolerance in (0.0, 0.01):
        assert all(equal(a, b, tolerance) for a in numbers for b in numbers if agree(a, b, tolerance))
