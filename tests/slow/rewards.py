"""A user's own reward, for tests."""

import os
from collections.abc import Sequence

from yonder.schema import Rollout


def length(rollouts: Sequence[Rollout]) -> list[float]:
    return [min(1.0, len(rollout.completion.text) / 40) for rollout in rollouts]


def fails_in_one(rollouts: Sequence[Rollout]) -> list[float]:
    """Fails in process 1 of several."""
    if os.environ.get("RANK") == "1":
        raise ValueError("not here")
    return [1.0 for _ in rollouts]
