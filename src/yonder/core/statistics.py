"""Intervals and tests for the numbers in a table: shares, means, spread over seeds, paired comparisons."""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from yonder.schema import Interval

Z = NormalDist().inv_cdf(0.975)  # 1.95996: 95 % of a normal lies within +- this

ROUNDING = 1e-12  # values closer than this are equal


class MeanStd(NamedTuple):
    """A mean and its spread; the standard deviation is the sample's (n - 1), None below two values."""

    mean: float | None  # None without values
    std: float | None
    n: int


def wilson(successes: float, n: int) -> Interval:
    """95 % score interval of a share (Wilson 1927, eq. 4; Brown, Cai, DasGupta 2001 recommend it).

    `successes` may be fractional (a tie counts 1/2); the interval is then a little too wide. Without trials (n = 0) the
    value is NaN and the interval [0, 1]: nothing is known. ValueError when `successes` is outside [0, n].
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    return _score_interval(successes / n, n, n)


def _score_interval(share: float, size: float, n: int) -> Interval:
    """Wilson's interval of a share that is known as well as from `size` independent trials."""
    scale = 1 + Z**2 / size
    centre = (share + Z**2 / (2 * size)) / scale
    half = Z * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2)) / scale
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), n)


def clustered_share(values: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """95 % interval of the mean of `values` (0 to 1) where those of a cluster (one question) are alike.

    Wilson's, with p (1 - p) / V trials instead of n, at most n, where V is the clustered variance of the mean, the sum
    over clusters of (sum of x - p)^2, over n^2 (Miller 2024, arXiv:2411.00640, eq. 4). Where nothing varies (all 0, all
    1): as many trials as clusters. One 0 or 1 a cluster: the same as `wilson`. No values: as `wilson(0, 0)`.
    """
    n = len(values)
    if n == 0:
        return wilson(0, 0)
    share = math.fsum(values) / n
    residuals: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] = residuals.get(cluster, 0.0) + value - share
    variance = math.fsum(residual**2 for residual in residuals.values()) / n**2
    known = variance > 1e-15  # else rounding alone
    size = min(float(n), share * (1 - share) / variance) if known else float(len(residuals))
    return _score_interval(min(1.0, max(0.0, share)), max(1.0, size), n)


def combined(
    function: Callable[[Sequence[float]], float], parts: Sequence[Interval], *, dependent: bool = False
) -> Interval:
    """95 % interval of a function that grows with each of several estimates, from their intervals.

    One estimate at a time is moved to its bound, and the squares of the changes are added (Zou and Donner 2008, for
    sums of independent estimates); `dependent`: the changes themselves are added, which is the widest that it can be.
    n is the sum of the parts' n.
    """
    values = [part.value for part in parts]
    here = function(values)

    def change(i: int, bound: float) -> float:
        return abs(function([*values[:i], bound, *values[i + 1 :]]) - here)

    below = [change(i, part.low) for i, part in enumerate(parts)]
    above = [change(i, part.high) for i, part in enumerate(parts)]
    low, high = (math.fsum(changes) if dependent else math.hypot(*changes) for changes in (below, above))
    return Interval(here, here - low, here + high, sum(part.n for part in parts))


def bootstrap_mean(values: Sequence[float], seed: int, resamples: int = 2000) -> Interval:
    """95 % percentile bootstrap interval of a mean (Efron and Tibshirani 1993, ch. 13). Same seed, same interval.

    Equal values, of which no resample differs, have no bounds (NaN); for shares take `wilson`. No values: NaN
    throughout, n = 0.
    """
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0)
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = [data[generator.integers(0, len(data), len(data))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    if high - low < ROUNDING:
        return Interval(float(data.mean()), math.nan, math.nan, len(data))
    return Interval(float(data.mean()), float(low), float(high), len(data))


def mean_std(values: Sequence[float]) -> MeanStd:
    """Mean and sample standard deviation (Bessel's n - 1), the spread over seeds that a table shows."""
    n = len(values)
    mean = float(np.mean(values)) if n else None
    return MeanStd(mean, float(np.std(values, ddof=1)) if n > 1 else None, n)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them right, hold a right one: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1).

    ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} right")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided p-value that two systems answer the same questions equally well (McNemar 1947, exact binomial form).

    Only questions on which they differ count; 1.0 where there are none. ValueError when the lists differ in length.
    """
    from scipy.stats import binomtest  # a dependency of scikit-learn; slow to import

    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int, seed: int) -> Interval:
    """pass@k of a benchmark: the mean of `pass_at_k` over its questions, each (samples, right ones) with samples >= k.

    95 % bootstrap interval over questions; where all of them are 0, or all 1, Wilson's over as many questions. No
    questions: as `wilson(0, 0)`.
    """
    values = [pass_at_k(n, c, k) for n, c in counts]
    if not values or (len(set(values)) == 1 and values[0] in (0.0, 1.0)):
        return wilson(sum(values), len(values))
    return bootstrap_mean(values, seed)


def t_interval(values: Sequence[float]) -> Interval:
    """95 % interval of the mean of independent values, by Student's t on n - 1 degrees of freedom, cut at 0 and 1.

    For shares measured several times (seeds, instances of a template). One value: [0, 1]; none: as `wilson(0, 0)`;
    equal values: without bounds (NaN), since they say nothing of the spread.
    """
    from scipy.stats import t  # slow to import

    mean, std, n = mean_std(values)
    if mean is None or std is None:
        return Interval(math.nan if mean is None else mean, 0.0, 1.0, n)
    if std < ROUNDING:
        return Interval(mean, math.nan, math.nan, n)
    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def paired_difference(a: Sequence[bool], b: Sequence[bool]) -> Interval:
    """Share of b minus share of a on the same questions, with its 95 % interval (Agresti and Min 2005, section 2.2).

    Wald's interval of a difference of matched shares, with half a question added to each cell of the 2 x 2 table: it
    holds the truth about as often as it says from few questions on, and is not empty where nothing flips. ValueError
    when the lists differ in length. No questions: NaN within [-1, 1].
    """
    n = len(a)
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    if n == 0:
        return Interval(math.nan, -1.0, 1.0, 0)
    value, size = (only_b - only_a) / n, n + 2
    centre = (only_b - only_a) / size
    half = Z * math.sqrt((only_a + only_b + 1) / size - centre**2) / math.sqrt(size)
    return Interval(value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)), n)
