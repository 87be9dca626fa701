"""Means over clusters, and whether a mean has grown: what the monitor's rules are made of."""

import math
from collections.abc import Mapping
from typing import NamedTuple

Clusters = Mapping[str, tuple[float, int]]  # prompt -> sum and number of its rollouts' values


class ClusteredMean(NamedTuple):
    """A mean over the members of all clusters, with its standard error."""

    value: float
    error: float  # infinite below two clusters
    n: int  # members


class Growth(NamedTuple):
    """The difference of two means, and that in standard errors."""

    value: float
    z: float


def clustered_mean(clusters: Clusters) -> ClusteredMean | None:
    """Mean of values that come in clusters of alike members; None without members.

    The error is that of a ratio of cluster totals (Cochran 1977, eq. 6.13), so eight rollouts of one prompt do not
    count as eight independent ones.
    """
    n = _members(clusters)
    if not n:
        return None
    return ClusteredMean(_mean(clusters), _error(_residuals(clusters), n), n)


def growth(before: Clusters, now: Clusters) -> Growth | None:
    """How much a mean has grown; None where a side has no members.

    A prompt that is on both sides is compared with itself: what makes it hard is the same then and now, and does not
    blur the difference.
    """
    if not _members(before) or not _members(now):
        return None
    then, after = _residuals(before), _residuals(now)
    change = {prompt: after.get(prompt, 0.0) - then.get(prompt, 0.0) for prompt in {**then, **after}}
    value = _mean(now) - _mean(before)
    return Growth(value, value / _error(change, min(_members(before), _members(now))))


def _members(clusters: Clusters) -> int:
    return sum(count for _, count in clusters.values())


def _mean(clusters: Clusters) -> float:
    return sum(total for total, _ in clusters.values()) / _members(clusters)


def _residuals(clusters: Clusters) -> dict[str, float]:
    """What each cluster adds to the error of the mean."""
    mean, n = _mean(clusters), _members(clusters)
    return {prompt: (total - mean * count) / n for prompt, (total, count) in clusters.items() if count}


def _error(residuals: Mapping[str, float], n: int) -> float:
    """At least sqrt(2) / n, the error that adding two successes and two failures gives a share of 0 (Agresti and
    Coull 1998): no false yes in ten is not a rate of exactly 0."""
    k = len(residuals)
    if k < 2:
        return math.inf
    return max(math.sqrt(k / (k - 1) * sum(r * r for r in residuals.values())), math.sqrt(2) / n)
