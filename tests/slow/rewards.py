"""A user's own reward, for tests."""

from collections.abc import Sequence

from yonder.schema import Rollout


def length(rollouts: Sequence[Rollout]) -> list[float]:
    return [min(1.0, len(rollout.completion.text) / 40) for rollout in rollouts]
