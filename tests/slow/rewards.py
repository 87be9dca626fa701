"""A user's own reward, for tests."""

import os
from collections.abc import Sequence

from yonder.schema import Rollout


def length(rollouts: Sequence[Rollout]) -> list[float]:
    return [min(1.0, len(rollout.completion.text) / 40) for rollout in rollouts]


def even(rollouts: Sequence[Rollout]) -> list[float]:
    """The share of even token ids, which seldom is the same twice."""
    return [sum(t % 2 == 0 for t in r.completion.token_ids) / len(r.completion.token_ids) for r in rollouts]


def fails_in_one(rollouts: Sequence[Rollout]) -> list[float]:
    """Fails in process 1 of several."""
    if os.environ.get("RANK") == "1":
        raise ValueError("not here")
    return [1.0 for _ in rollouts]
