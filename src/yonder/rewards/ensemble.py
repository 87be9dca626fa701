"""Several rewards as one: a policy must please all of them, which is harder to fake than pleasing one."""

import statistics
from collections.abc import Collection, Sequence
from typing import Literal

from yonder.protocols import EarlyScorer, Reward
from yonder.rewards.early import early_scorers
from yonder.schema import Rollout, Score

Combine = Literal["mean", "min", "mean-kstd"]


class EnsembleReward:
    """Mean, smallest, or mean - k * std of the members' scores of each rollout (Coste et al., arXiv 2310.02743).

    A rollout that a member cannot score is unscored: what is left would be another reward.
    """

    def __init__(self, members: Sequence[tuple[str, Reward]], combine: Combine, k: float = 1.0) -> None:
        self.members = members
        self.combine = combine
        self.k = k

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch; the details hold every member's score."""
        by_member = [(name, member.score(rollouts)) for name, member in self.members]
        return [self._one([(name, scores[i]) for name, scores in by_member]) for i in range(len(rollouts))]

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """Its members'."""
        return [scorer for _, member in self.members for scorer in early_scorers(member, kinds)]

    def _one(self, found: list[tuple[str, Score]]) -> Score:
        details: dict[str, float | str | bool | None] = {name: score.value for name, score in found}
        missing = [f"{name}: {score.reason}" for name, score in found if score.value is None]
        if missing:
            return Score(None, f"unscored by {'; '.join(missing)}", details)
        values = [score.value for _, score in found if score.value is not None]
        return Score(self._combined(values), f"{self.combine} of {len(values)}", details)

    def _combined(self, values: list[float]) -> float:
        if self.combine == "min":
            return min(values)
        mean = statistics.fmean(values)
        return mean if self.combine == "mean" else max(0.0, mean - self.k * statistics.pstdev(values))
