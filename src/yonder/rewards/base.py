"""Rewards that need no model: a user's own function, and the shuffled control."""

import math
import os
import random
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import cast

from yonder.errors import RecipeError
from yonder.protocols import EarlyScorer, Reward
from yonder.rewards.early import early_scorers
from yonder.schema import Rollout, Score

UserFunction = Callable[[Sequence[Rollout]], Sequence[float | Score | None]]


class FunctionReward:
    """A user's own `module:function`, called with a batch of rollouts; it returns a number, a Score or None for
    each."""

    def __init__(self, name: str, function: UserFunction) -> None:
        self.name = name
        self.function = function

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Call the function and check what it returned.

        Raises RecipeError when the function raises, or does not return a number, Score or None for each rollout.
        """
        try:
            values = list(self.function(rollouts))
        except Exception as error:  # a user's code may raise anything
            raise RecipeError(f"reward {self.name} raised {_described(error)}; mend it") from error
        if len(values) != len(rollouts):
            raise RecipeError(
                f"reward {self.name} returned {len(values)} scores for {len(rollouts)} rollouts; return one each"
            )
        return [self._score(value) for value in values]

    def _score(self, value: float | Score | None) -> Score:
        score = value if isinstance(value, Score) else Score(None, f"{self.name} returned None")
        if not isinstance(value, Score) and value is not None:
            try:
                score = Score(float(value), self.name)
            except (TypeError, ValueError) as error:
                raise RecipeError(f"reward {self.name} returned {value!r}; return a number, a Score or None") from error
        if score.value is None:
            return score
        if not math.isfinite(score.value):
            return Score(None, f"{self.name} returned {score.value}")
        if not 0 <= score.value <= 1:
            raise RecipeError(f"reward {self.name} returned {score.value:g}; return a number from 0 to 1")
        return score


def load_function(name: str) -> FunctionReward:
    """The reward behind `module:function`, the working directory included; RecipeError when it cannot be imported."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        mend = "it must be module:function, in the working directory or on PYTHONPATH"
        raise RecipeError(f"reward `{name}` cannot be imported: {_described(error)}; {mend}") from error
    if not callable(function):
        raise RecipeError(f"reward `{name}` is a {type(function).__name__}, not a function; name a function")
    return FunctionReward(name, cast(UserFunction, function))


def _described(error: Exception) -> str:
    """Kind, first line and place of an error in a user's code."""
    text = f"{type(error).__name__}: {(str(error).strip() or 'nothing said').splitlines()[0]}"
    places = traceback.extract_tb(error.__traceback__)
    frames = [place for place in places if place.filename != __file__ and "importlib" not in place.filename]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


class ShuffledReward:
    """Another reward's scores, permuted within each batch: the control that says nothing about its rollout."""

    def __init__(self, reward: Reward, seed: int) -> None:
        self.reward = reward
        self.seed = seed

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch, then permute; the order is a function of the seed and the batch's texts, so a resumed run
        repeats it."""
        scores = self.reward.score(rollouts)
        order = list(range(len(scores)))
        random.Random(f"{self.seed}/{[rollout.response for rollout in rollouts]}").shuffle(order)
        return [scores[i] for i in order]

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """The other reward's."""
        return early_scorers(self.reward, kinds)
