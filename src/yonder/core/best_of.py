"""What a judge is worth as a chooser: best of n responses to one question, in closed form."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from yonder.core.statistics import pass_at_k


class BestOf(NamedTuple):
    """One question: chances of a right response when n of its responses are drawn without replacement."""

    chosen: float  # the one that the judge likes best; of equals, one at random
    drawn: float  # any of them: the share that is right
    oracle: float  # at least one of them is right: pass@n

    @property
    def lift(self) -> float:
        """What choosing adds to drawing."""
        return self.chosen - self.drawn


def best_of_n(scores: Sequence[float], labels: Sequence[bool], n: int) -> BestOf | None:
    """The mean over all subsets of size n of m responses (as Nakano et al. 2021, arXiv 2112.09332, but with ties).

    The best score of a subset is v in C(below or at v, n) - C(below v, n) of C(m, n) subsets, and each response with
    the score v is then equally likely to be the one chosen. None for fewer than n responses.
    """
    total = len(scores)
    if not 1 <= n <= total:
        return None
    groups: dict[float, list[bool]] = {}
    for score, label in zip(scores, labels, strict=True):
        groups.setdefault(score, []).append(label)
    chosen, below = 0.0, 0
    for score in sorted(groups):
        group = groups[score]
        subsets = math.comb(below + len(group), n) - math.comb(below, n)
        chosen += subsets / math.comb(total, n) * sum(group) / len(group)
        below += len(group)
    return BestOf(chosen, sum(labels) / total, pass_at_k(total, sum(labels), n))
