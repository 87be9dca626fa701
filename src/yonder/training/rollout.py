"""One iteration's prompts answered and scored."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yonder.models.teacher import Teacher
from yonder.protocols import EarlyScorer, Finished, Reward
from yonder.rewards.early import early_scorers
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


def score_streams(
    rollouts: StreamRollouts, terms: Sequence[Term], probes: Sequence[Term], spent: Callable[[str], None] | None = None
) -> StreamScores:
    """Score each of these streams once by every reward that a term or a probe reads on it. `spent` is told of what the
    time since it was told before went into."""
    found: dict[tuple[str, str], list[Score]] = {}
    for term in [*terms, *probes]:
        key = (term.reward_name, term.stream)
        if term.reward is not None and term.stream in rollouts and key not in found:
            found[key] = term.reward.score(rollouts[term.stream])
            if spent is not None:
                spent(f"score/{term.reward_name}")
    return found


def rollout_row(step: int, stream: str, rollout: Rollout, scores: dict[str, Score]) -> dict[str, Any]:
    """One rollout as the log keeps it."""
    return {
        "step": step,
        "stream": stream,
        "prompt_id": rollout.prompt.id,
        "question": rollout.prompt.question,
        "response": rollout.response,
        "completion": rollout.completion.text,
        "answer": rollout.prompt.answer,
        "finished": rollout.completion.finished,
        "tokens": len(rollout.completion.token_ids),
        "scores": {
            name: {"value": score.value, "reason": score.reason, "details": dict(score.details)}
            for name, score in scores.items()
        },
    }


class EarlyScores:
    """Begins the scores of rollouts while others of their batch are still written, within it as a context: after that
    nothing is begun, and what was is given up."""

    def __init__(self, terms: Sequence[Term], probes: Sequence[Term], kinds: Collection[str]) -> None:
        """`kinds`: as `protocols.ScoresEarly`."""
        self._lock = threading.Lock()
        self._open = False
        self._scorers: dict[str, dict[int, EarlyScorer]] = {}  # of a stream, each once
        for term in [*terms, *probes]:
            scorers = early_scorers(term.reward, kinds)
            self._scorers.setdefault(term.stream, {}).update({id(scorer): scorer for scorer in scorers})

    def of(self, stream: str) -> Finished | None:
        """What a sampler tells of the finished rollouts of one batch of the stream; None where no reward is waiting for
        them."""
        scorers = list(self._scorers.get(stream, {}).values())
        for scorer in scorers:
            scorer.anew()

        def finished(rollouts: Sequence[Rollout]) -> None:
            with self._lock:
                for scorer in scorers if self._open else ():
                    scorer.begin(rollouts)

        return finished if scorers else None

    def drop(self) -> None:
        """Give up what was begun."""
        for scorers in self._scorers.values():
            for scorer in scorers.values():
                scorer.drop()

    def __enter__(self) -> None:
        self._open = True

    def __exit__(self, *error: object) -> None:
        with self._lock:  # a thread that writes ahead may outlive an iteration that failed
            self._open = False
        self.drop()


def derived_seed(*parts: object) -> int:
    """A seed that is a pure function of its parts, so that a resumed run draws what an unbroken one would."""
    import hashlib

    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
