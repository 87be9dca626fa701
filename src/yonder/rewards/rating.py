"""The rating as a reward: a judge's mean rating between its worst and its best."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from yonder.core.judging import rating_mean
from yonder.rewards.judge import EarlyJudging, JudgeRules, guarded, shown_pair
from yonder.schema import JudgeScore, Rollout, Score

MOST_MASS = 1.01  # what rounding, and a server's half precision, may add to 1


class Ratings(NamedTuple):
    """What a judge says of one response."""

    probabilities: tuple[float, ...] = ()  # of the ratings 1, 2, ...; over the whole vocabulary
    truncated: bool = False
    reason: str = ""  # why there are none

    @property
    def sound(self) -> bool:
        """Whether these are probabilities, up to rounding."""
        return all(p >= 0 for p in self.probabilities) and math.fsum(self.probabilities) < MOST_MASS

    def cut(self, truncated: bool) -> "Ratings":
        """The same of a response that was cut, or was not."""
        return self._replace(truncated=truncated)


class RatesResponses(Protocol):
    """A judge back end that rates."""

    def ratings(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Ratings]:
        """The ratings of each (question, response), in order."""
        ...


class RatingReward(EarlyJudging):
    """(mean rating - 1) / (scale - 1), and 0 below delta, the mean weighted by the probabilities of the ratings.

    Guards, mass floor and what the judge is shown are those of `rules`. Equal pairs are rated once.
    """

    def __init__(self, model: RatesResponses, rules: JudgeRules, scale: int) -> None:
        super().__init__(model, rules)
        self.model = model
        self.rules = rules
        self.scale = scale

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch of rollouts: what a guard catches is 0 without asking the judge."""
        gates = [guarded(rollout, self.rules) for rollout in rollouts]
        pairs = [shown_pair(rollout, self.rules) for rollout in rollouts]
        asked = list(dict.fromkeys(pair for pair, gate in zip(pairs, gates, strict=True) if gate is None))
        found = dict(zip(asked, self.model.ratings(asked), strict=True)) if asked else {}
        return [
            self._score(found[pair]) if gate is None else JudgeScore(0.0, f"{gate[1]}: not judged", {"guard": gate[0]})
            for pair, gate in zip(pairs, gates, strict=True)
        ]

    def _score(self, given: Ratings) -> JudgeScore:
        mean, mass = rating_mean(given.probabilities)
        why = given.reason
        if not why and not math.isfinite(mass):
            why = "the judge's ratings are not numbers"
        if not why and (mass < self.rules.mass_floor or mass <= 0):
            why = f"the judge gives the ratings 1 to {self.scale} only {mass:.3f} of its probability"
        if why:
            shown = mass if math.isfinite(mass) else 0.0
            return JudgeScore(None, why, {"mass": shown}, mass=shown, truncated=given.truncated)
        probability = min(1.0, max(0.0, (mean - 1) / (self.scale - 1)))
        value = probability if probability >= self.rules.delta else 0.0
        details = {"rating": mean, "mass": mass, "probability": probability, "truncated": given.truncated}
        return JudgeScore(value, f"rated {mean:.2f} of {self.scale}", details, mass=mass, truncated=given.truncated)
