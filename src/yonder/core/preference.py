"""Which of two responses is better, from one-token verdicts in both orders."""

import math


def preference(first_gap: float, second_gap: float) -> tuple[float, float]:
    """P(the first response is better) and the position bias, from log P(label 1) - log P(label 2) in both orders.

    `first_gap`: the first response stands first; `second_gap`: it stands second. Each order gives P(what stands first
    is better) = P(label 1) / (P(label 1) + P(label 2)), as AlpacaEval's `logprob_parser`; the mean over both orders
    cancels a liking for a place. The bias is the sum of the two less 1: 0 for a judge without such a liking, 1 for one
    that always prefers what stands first.
    """
    stands_first, stands_second = sigmoid(first_gap), sigmoid(second_gap)
    return (stands_first + 1 - stands_second) / 2, stands_first + stands_second - 1


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
