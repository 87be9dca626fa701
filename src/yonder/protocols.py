"""What the parts are to each other: the verbs beside the nouns of `schema`. Any object with these methods will do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from yonder.schema import Prompt, Rollout, Score

Finished = Callable[[Sequence[Rollout]], None]  # is told of rollouts as they are finished, from any thread


class Reward(Protocol):
    """Scores rollouts: one `Score` each, in order; a value from 0 to 1, or None with the reason why there is none."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch."""
        ...


class EarlyScorer(Protocol):
    """What can begin the scores of single rollouts in the background."""

    def anew(self) -> None:
        """Another batch is about to be written."""
        ...

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Begin; returns at once. `score` of the reward then takes what was begun."""
        ...

    def drop(self) -> None:
        """Give up what was begun and not taken."""
        ...


@runtime_checkable
class ScoresEarly(Protocol):
    """A `Reward` that need not wait for the last rollout."""

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """The parts that begin, of these kinds: `served` (judges on servers), `programs` (in the sandbox), `local`
        (judges and classifiers in this process)."""
        ...


class Sampler(Protocol):
    """Answers prompts with the policy."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> list[Rollout]:
        """`samples` rollouts of every prompt, prompt by prompt; `group` is the prompt's index in `prompts`.

        temperature None: greedy.
        """
        ...


class RolloutEngine(Sampler, Protocol):
    """Answers prompts while the policy learns."""

    beside: bool  # it has weights of its own, and may work at the same time as the trainer

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        """As `Sampler`. `finished` is told of each rollout while others are still written; one that is not returned in
        the end may be among them."""
        ...

    def refresh(self, step: int) -> None:
        """Take the policy's weights as they are after `step` updates, where it has its own. RolloutError where that
        cannot be done now."""
        ...


class Stream(Protocol):
    """An endless, resumable source of prompts. `state` is JSON; after `load_state` the stream goes on as before."""

    def next(self, count: int) -> list[Prompt]:
        """The next `count` prompts."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the stream stands."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. DataError if the data are not the same any more."""
        ...
