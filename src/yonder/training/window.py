"""What a probe reward and the verifier said of the same labeled rollouts over the last iterations."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from yonder.core.calibration import auroc
from yonder.core.drift import Clusters
from yonder.schema import Rollout, Score

LIKED = 0.5  # above this a probe says Yes


@dataclass(frozen=True, slots=True)
class Compared:
    """One labeled rollout that both the probe and the verifier scored."""

    prompt: str
    value: float
    right: bool


def compare(rollouts: Sequence[Rollout], probe: Sequence[Score], verified: Sequence[Score]) -> list[Compared]:
    """The rollouts of one iteration that have both scores."""
    return [
        Compared(rollout.prompt.id, score.value, bool(truth.details.get("correct")))
        for rollout, score, truth in zip(rollouts, probe, verified, strict=True)
        if score.value is not None and truth.value is not None
    ]


def agreement(pairs: Sequence[Compared]) -> dict[str, float]:
    """How a probe stands to the truth; a figure without cases is left out."""
    if not pairs:
        return {}
    right = [pair.value for pair in pairs if pair.right]
    wrong = [pair.value for pair in pairs if not pair.right]
    mean = sum(pair.value for pair in pairs) / len(pairs)
    found = {"mean": mean, "verified_mean": len(right) / len(pairs), "gap": mean - len(right) / len(pairs)}
    found["accuracy"] = sum((pair.value > LIKED) == pair.right for pair in pairs) / len(pairs)
    if wrong:
        found["false_positive_rate"] = sum(value > LIKED for value in wrong) / len(wrong)
    if right:
        found["false_negative_rate"] = sum(value <= LIKED for value in right) / len(right)
    return found


class Window:
    """The last iterations of one probe; resumable."""

    def __init__(self, size: int) -> None:
        self._iterations: deque[list[Compared]] = deque(maxlen=size)

    def add(self, pairs: Sequence[Compared]) -> None:
        """One more iteration; the oldest goes."""
        self._iterations.append(list(pairs))

    def clear(self) -> None:
        """Forget everything: the policy is another one now."""
        self._iterations.clear()

    @property
    def full(self) -> bool:
        """Whether it has seen as many iterations as it holds."""
        return len(self._iterations) == self._iterations.maxlen

    @property
    def pairs(self) -> list[Compared]:
        """All of them."""
        return [pair for iteration in self._iterations for pair in iteration]

    def false_yes(self) -> Clusters:
        """Verified-wrong rollouts by prompt, 1 for those that the probe likes."""
        return by_prompt([(pair.prompt, float(pair.value > LIKED)) for pair in self.pairs if not pair.right])

    def gap(self) -> Clusters:
        """All rollouts by prompt: the probe's value less the truth."""
        return by_prompt([(pair.prompt, pair.value - pair.right) for pair in self.pairs])

    def figures(self) -> dict[str, float]:
        """AUROC, false-positive rate and gap of the whole window; what has no cases is left out."""
        pairs = self.pairs
        found = agreement(pairs)
        named = {key: found[key] for key in ("false_positive_rate", "gap") if key in found}
        ranking = auroc([pair.value for pair in pairs], [pair.right for pair in pairs])
        return named if ranking is None else named | {"auroc": ranking}

    def state(self) -> list[list[tuple[str, float, bool]]]:
        """Plain values for a checkpoint."""
        return [[(pair.prompt, pair.value, pair.right) for pair in iteration] for iteration in self._iterations]

    def load_state(self, state: Sequence[Sequence[tuple[str, float, bool]]]) -> None:
        """Continue from a state."""
        self.clear()
        for iteration in state:
            self.add([Compared(prompt, value, right) for prompt, value, right in iteration])


def by_prompt(values: Sequence[tuple[str, float]]) -> Clusters:
    """Sum and number of each prompt's values."""
    found: dict[str, tuple[float, int]] = {}
    for prompt, value in values:
        total, count = found.get(prompt, (0.0, 0))
        found[prompt] = (total + value, count + 1)
    return found
