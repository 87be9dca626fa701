"""Learning-rate schedules as functions of the step."""

import math


def learning_rate(step: int, total: int, peak: float, shape: str, warmup_fraction: float) -> float:
    """The rate for optimizer step `step` (from 0) of `total`: a linear rise over the warm-up share, then `shape`.

    constant stays at the peak; linear and cosine fall to zero at `total`. [ReFT]: SFT linear with 10 % warm-up, RL
    constant.
    """
    warmup = round(total * warmup_fraction)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if shape == "linear":
        return peak * (1 - progress)
    if shape == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * progress))
    return peak
