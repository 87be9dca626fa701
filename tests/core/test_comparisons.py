"""Which pairs are compared, on every small count, and mean win rates by hand."""

import random

import pytest

from yonder.core.comparisons import drawn_pairs, win_rates


@pytest.mark.parametrize("count", range(2, 10))
def test_everyone_is_in_about_as_many_different_pairs(count: int) -> None:
    whole = count * (count - 1) // 2
    for most in range(1, whole + 2):
        pairs = drawn_pairs(count, most, random.Random(most))
        assert len({frozenset(pair) for pair in pairs}) == len(pairs) == min(most, whole)
        times = [sum(i in pair for pair in pairs) for i in range(count)]
        assert max(times) - min(times) <= 1 + count % 2
        if most >= (count + 1) // 2:
            assert min(times) >= 1
        if most >= 2 * (count // 2):  # two rounds connect all
            reached = {0}
            for _ in pairs:
                reached |= {i for pair in pairs if reached & set(pair) for i in pair}
            assert reached == set(range(count))


def test_the_draw_decides_who_meets_whom() -> None:
    draws = [tuple(drawn_pairs(6, 3, random.Random(seed))) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert drawn_pairs(0, 8, random.Random(0)) == drawn_pairs(1, 8, random.Random(0)) == []


def test_win_rates_by_hand() -> None:
    pairs = [(0, 1, 0.75), (1, 2, 0.5), (2, 0, None), (0, 3, 1.0), (4, 2, None)]
    # 0: (0.75 + 1) / 2; 1: (0.25 + 0.5) / 2; 2: 1 - 0.5; 3: 1 - 1; 4 and 5: no verdict
    assert win_rates(6, pairs) == [(0.875, 2), (0.375, 2), (0.5, 1), (0.0, 1), (None, 0), (None, 0)]
