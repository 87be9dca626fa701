"""The coefficient of the KL while training: fixed, or following a target."""

from dataclasses import dataclass, replace
from typing import Any

from yonder.core.kl import adapted, k1
from yonder.core.masking import masked_mean
from yonder.training.advantages import Estimator
from yonder.training.batch import Batch


@dataclass(slots=True)
class KLControl:
    """`scale` times the recipe's beta; without a target it stays 1. Resumable."""

    target: float | None = None  # nats a token, as `policy/kl_nats`
    gain: float = 0.1
    scale: float = 1.0

    def estimator(self, estimator: Estimator) -> Estimator:
        """The estimator with the coefficient as it is now."""
        return replace(estimator, kl_in_reward=estimator.kl_in_reward * self.scale)

    def observe(self, batch: Batch) -> dict[str, float]:
        """After an iteration: follow the KL of the policy that sampled it. Returns metrics."""
        if self.target is None:
            return {}
        kl = float(masked_mean(k1(batch.old_logprobs, batch.reference_logprobs), batch.completion_mask))
        self.scale = adapted(self.scale, kl, self.target, self.gain)
        return {"policy/kl_scale": self.scale}

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"scale": self.scale}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.scale = state["scale"]
