"""The judge's reward from its two logits."""

import math
from collections.abc import Sequence


def judge_value(logit_gap: float, tau: float, delta: float) -> float:
    """sigmoid((z_yes - z_no) / tau), and 0 where that is below delta ([J] eq. 2)."""
    scaled = logit_gap / tau
    value = 1 / (1 + math.exp(-scaled)) if scaled >= 0 else math.exp(scaled) / (1 + math.exp(scaled))
    return value if value >= delta else 0.0


def rating_mean(probabilities: Sequence[float]) -> tuple[float, float]:
    """Probability-weighted mean of the ratings 1, 2, ... (G-Eval, Liu et al. 2023, eq. 1, divided by the mass), and the
    mass, the sum of `probabilities`. NaN where they have no mass."""
    mass = math.fsum(probabilities)
    weighted = math.fsum(rating * p for rating, p in enumerate(probabilities, start=1))
    return (weighted / mass if mass > 0 else math.nan), mass


def split_rating(prefix: float, goes_on: float) -> tuple[float, float]:
    """P(1) and P(10) where "10" is the token "1" and then "0": from P("1") and P("0" | "1")."""
    return prefix * (1 - goes_on), prefix * goes_on
