"""One iteration's prompts answered and scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yonder.models.teacher import Teacher
from yonder.protocols import Reward
from yonder.schema import Rollout, Score


@dataclass(frozen=True, slots=True)
class Term:
    """One weighted loss: a reward read on a stream, or the distance to a teacher on it."""

    reward_name: str
    stream: str
    weight: float
    reward: Reward | None  # None: with a teacher
    teacher: Teacher | None = None

    @property
    def name(self) -> str:
        """`reward@stream`, as in metrics."""
        return f"{self.reward_name}@{self.stream}"


StreamRollouts = Mapping[str, list[Rollout]]
StreamScores = Mapping[tuple[str, str], list[Score]]  # (reward name, stream) -> one score a rollout


def score_streams(rollouts: StreamRollouts, terms: Sequence[Term], probes: Sequence[Term]) -> StreamScores:
    """Score each of these streams once by every reward that a term or a probe reads on it."""
    found: dict[tuple[str, str], list[Score]] = {}
    for term in [*terms, *probes]:
        key = (term.reward_name, term.stream)
        if term.reward is not None and term.stream in rollouts and key not in found:
            found[key] = term.reward.score(rollouts[term.stream])
    return found


def derived_seed(*parts: object) -> int:
    """A seed that is a pure function of its parts, so that a resumed run draws what an unbroken one would."""
    import hashlib

    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
