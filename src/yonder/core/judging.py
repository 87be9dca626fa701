"""The judge's reward from its two logits."""

import math


def judge_value(logit_gap: float, tau: float, delta: float) -> float:
    """sigmoid((z_yes - z_no) / tau), and 0 where that is below delta ([J] eq. 2)."""
    scaled = logit_gap / tau
    value = 1 / (1 + math.exp(-scaled)) if scaled >= 0 else math.exp(scaled) / (1 + math.exp(scaled))
    return value if value >= delta else 0.0
