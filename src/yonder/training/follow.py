"""A judge that follows the policy: the policy's own moving copy says Yes or No (self-distillation).

Its weights move towards the policy's by a share every few iterations, so that what judges is an average of the policies
before: share 1 is a copy of now, a small one a mean teacher (Tarvainen and Valpola 2017, eq. 3).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yonder.errors import ModelError
from yonder.models.lora import merged_weights
from yonder.training.checkpoint import load_policy_weights
from yonder.training.parts import Refitted, Trainable
from yonder.training.rollout import StreamRollouts, StreamScores


@dataclass(slots=True)
class Follow:
    """Moves one judge; a `training.parts.Refitter` that needs no responses."""

    name: str  # the reward
    model: Trainable
    policy: Trainable
    every: int  # iterations
    share: float  # of the way to the policy's weights
    rewards: Collection[str] = ()  # none begins anew for the monitor: a judge that grows kinder must show there
    count: int = 0
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder = f"refitted/{self.name}"
        ours, theirs = (shapes(weights(made.model)) for made in (self.model, self.policy))
        if ours != theirs:
            odd = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            raise ModelError(
                f"`follow.reward: {self.name}`: this judge is no copy of the policy (`{odd[0]}` differs); set its "
                "`model` to what the policy starts from"
            )

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Nothing: no labels are needed."""

    def due(self, iteration: int) -> bool:
        """Whether it moves after this iteration."""
        return iteration % self.every == 0

    @torch.no_grad()
    def fit(self, step: int) -> Refitted:
        """w_judge += share * (w_policy - w_judge), in float32; tells how far apart they were."""
        target, apart, size = weights(self.policy.model), 0.0, 0.0
        moved: set[int] = set()  # tied weights have two names and move once
        for name, tensor in self.model.model.state_dict().items():
            if not tensor.is_floating_point() or tensor.data_ptr() in moved:
                continue
            moved.add(tensor.data_ptr())
            goal = target[name].to(tensor.device, torch.float32)
            difference = goal - tensor.float()
            apart += float(difference.square().sum())
            size += float(goal.square().sum())
            tensor.copy_(goal if self.share == 1 else tensor.float() + self.share * difference)
        self.count += 1
        distance = (apart / size) ** 0.5 if size else 0.0
        message = f"{self.name} followed the policy (its weights were {distance:.2%} away)"
        return Refitted(True, message, {"distance": distance})

    def state(self) -> dict[str, Any]:
        """Plain values; the weights stand beside it."""
        return {"count": self.count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing but weights and count, which `load_weights` reads."""

    def load_weights(self, checkpoint: Path, state: Mapping[str, Any]) -> bool:
        """Put a checkpoint's weights back; True when it moved since."""
        load_policy_weights(checkpoint, self.model, self.folder)
        before, self.count = self.count, int(state["count"])
        return before != self.count


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by name, an adapter merged into them (then copies)."""
    merged = merged_weights(model)
    return dict(model.state_dict()) if merged is None else merged


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
