"""The classifier's reward: a reranker ([J], [ReFT]) or a reward model ([R])."""

from collections.abc import Sequence
from typing import Protocol

from yonder.schema import Rollout, Score


class CorrectnessModel(Protocol):
    """A classifier back end."""

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """P(correct) for each (question, response), in order; None for a text that is too long to score."""
        ...


class ClassifierReward:
    """P(correct), and 0 below delta; empty or unfinished completions are 0 without a forward; equal pairs are scored
    once."""

    def __init__(self, model: CorrectnessModel, delta: float) -> None:
        self.model = model
        self.delta = delta

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch of rollouts."""
        pairs = [(rollout.prompt.question, rollout.response) for rollout in rollouts]
        usable = [r.completion.finished and bool(r.completion.text.strip()) for r in rollouts]
        scored = iter(self.score_pairs([pair for pair, use in zip(pairs, usable, strict=True) if use]))
        return [next(scored) if use else Score(0.0, "empty or unfinished completion: not scored") for use in usable]

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Score plain (question, response) pairs."""
        distinct = list(dict.fromkeys(pairs))
        found = dict(zip(distinct, self.model.probabilities(distinct), strict=True)) if distinct else {}
        return [self._score(found[pair]) for pair in pairs]

    def _score(self, probability: float | None) -> Score:
        if probability is None:
            return Score(None, "text longer than the classifier's max_tokens")
        value = probability if probability >= self.delta else 0.0
        return Score(value, f"P(correct) {probability:.3f}", {"probability": probability})
