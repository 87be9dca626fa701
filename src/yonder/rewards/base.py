"""What a reward is."""

import random
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

from yonder.errors import RecipeError
from yonder.schema import Rollout, Score


class Reward(Protocol):
    """Scores rollouts: one `Score` each, in order; a value from 0 to 1, or None with the reason why there is none."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch."""
        ...


UserFunction = Callable[[Sequence[Rollout]], Sequence[float | Score | None]]


class FunctionReward:
    """A user's own `module:function`, called with a batch of rollouts; it returns a number, a Score or None for each."""

    def __init__(self, name: str, function: UserFunction) -> None:
        self.name = name
        self.function = function

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Call the function and check what it returned.

        Raises RecipeError when it does not return one finite number, Score or None for each rollout.
        """
        values = list(self.function(rollouts))
        if len(values) != len(rollouts):
            raise RecipeError(f"reward {self.name} returned {len(values)} scores for {len(rollouts)} rollouts; return one each")
        return [self._score(value) for value in values]

    def _score(self, value: float | Score | None) -> Score:
        if isinstance(value, Score):
            return value
        if value is None:
            return Score(None, f"{self.name} returned None")
        number = float(value)
        if number != number or number in (float("inf"), float("-inf")):
            return Score(None, f"{self.name} returned {number}")
        return Score(number, self.name)


def load_function(name: str) -> FunctionReward:
    """The reward behind `module:function`; RecipeError when it cannot be imported."""
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"reward `{name}` cannot be imported: {error}; it must be module:function on the Python path") from error
    return FunctionReward(name, cast(UserFunction, function))


class ShuffledReward:
    """Another reward's scores, permuted within each batch: the control that says nothing about its rollout."""

    def __init__(self, reward: Reward, seed: int) -> None:
        self.reward = reward
        self.seed = seed

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch, then permute; the order is a function of the seed and the batch's texts, so a resumed run repeats it."""
        scores = self.reward.score(rollouts)
        order = list(range(len(scores)))
        random.Random(f"{self.seed}/{[rollout.response for rollout in rollouts]}").shuffle(order)
        return [scores[i] for i in order]
