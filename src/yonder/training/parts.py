"""What the parts of a training loop are to it; any object with these methods will do."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from yonder.schema import Trip
from yonder.training.rollout import StreamRollouts, StreamScores, Term


class Trainable(Protocol):
    """What a checkpoint holds: a policy, or a classifier."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    value_head: nn.Linear | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...


class Checkpoints(Protocol):
    """Where a stage's checkpoints are; `training.checkpoint` has the one there is."""

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        ...

    def save(
        self,
        step: int,
        policy: Trainable,
        state: dict[str, Any],
        best_step: int | None,
        also: Collection[int],
        beside: Mapping[str, Trainable],
    ) -> Path:
        """Write one, and drop those that nobody needs any more."""
        ...

    def latest(self) -> Path | None:
        """The newest whole one."""
        ...

    def restore(self, checkpoint: Path, policy: Trainable, verified: bool = False) -> dict[str, Any]:
        """Put a checkpoint's weights into the policy; returns the rest. StorageError where it is damaged; `verified`:
        its hashes were compared already."""
        ...


class Records(Protocol):
    """What a stage writes while it runs; `training.records` has the one there is."""

    def begin(self, step: int) -> None:
        """Continue after `step`: what was written beyond it is dropped."""
        ...

    def saved(self, step: int) -> None:
        """A checkpoint exists at `step`."""
        ...

    def metrics(self, row: dict[str, Any]) -> None:
        """One row."""
        ...

    def event(self, step: int, action: str, trip: Trip) -> None:
        """What happened, and what was done about it."""
        ...

    def dump(self, name: str, value: dict[str, Any]) -> Path:
        """A file of its own; returns where."""
        ...

    def rollouts(self, step: int, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Some of each stream, with every score they got."""
        ...


class Refitted(NamedTuple):
    """What came of a refit."""

    done: bool
    message: str  # what was done, or why nothing could be
    figures: Mapping[str, float]


class Overseer(Protocol):
    """Looks at every iteration and tells what is wrong; `training.monitor` has the one there is."""

    def observe(self, step: int, rollouts: StreamRollouts, scores: StreamScores) -> tuple[dict[str, float], list[Trip]]:
        """Metrics of this iteration, and the rules that hold now and did not before."""
        ...

    def clear(self) -> None:
        """The policy was put back."""
        ...

    def restart(self, rewards: Collection[str]) -> None:
        """The scores of these rewards are others now."""
        ...

    def reweigh(self, terms: Sequence[Term]) -> None:
        """The terms have these weights now."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        ...


class Refitter(Protocol):
    """A reward that is fitted again while the policy moves; `training.refit` has the one there is."""

    name: str  # the reward
    rewards: Collection[str]  # it and those made of it: their scores change with it
    model: Trainable
    folder: str  # of its weights in a checkpoint
    count: int  # refits so far

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Keep the verified rollouts of an iteration."""
        ...

    def due(self, iteration: int) -> bool:
        """Whether one is due after this iteration."""
        ...

    def fit(self, step: int) -> Refitted:
        """Fit on what is fresh; where that is too little the weights stay as they are."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        ...

    def load_weights(self, checkpoint: Path, state: Mapping[str, Any]) -> bool:
        """Put a checkpoint's weights back; True when there was a refit since."""
        ...
