"""Grades from comparisons in pairs: which responses to a question are compared, and what that says of each."""

import random
from collections.abc import Sequence


def drawn_pairs(count: int, most: int, draw: random.Random) -> list[tuple[int, int]]:
    """At most `most` different pairs of `count` responses, all of them where there are no more.

    Rounds of a tournament in which everyone meets everyone (the circle method), in a drawn order: each takes part in as
    many pairs as any other, or in one fewer (an odd count: at most two fewer), and in one at least from
    ceil(count / 2) pairs on. Two whole rounds connect all responses.
    """
    seats: list[int | None] = list(range(count))
    draw.shuffle(seats)
    if count % 2:
        seats.insert(0, None)  # whoever meets it rests, and is the first to play in the next round
    found: list[tuple[int, int]] = []
    for _ in range(len(seats) - 1):
        for a, b in zip(seats[: len(seats) // 2], reversed(seats), strict=False):
            if a is not None and b is not None:
                found.append((a, b))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return found[:most]


def win_rates(count: int, pairs: Sequence[tuple[int, int, float | None]]) -> list[tuple[float | None, int]]:
    """Of each of `count` responses the mean probability of being preferred, and over how many pairs.

    `pairs`: (first, second, P(first is better)). A pair without a verdict counts for neither; without any pair the
    rate is None.
    """
    won: list[list[float]] = [[] for _ in range(count)]
    for first, second, value in pairs:
        if value is not None:
            won[first].append(value)
            won[second].append(1 - value)
    return [(sum(own) / len(own) if own else None, len(own)) for own in won]
