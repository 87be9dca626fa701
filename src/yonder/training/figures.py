"""What one iteration of the distill loop reports: rewards, lengths, seconds."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from yonder.training.rollout import StreamRollouts, StreamScores, Term


def iteration_metrics(rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term]) -> dict[str, Any]:
    """Reward as it was scored, share scored and guards of every term; length and variety of every stream."""
    metrics: dict[str, Any] = {}
    for term in terms:
        metrics[f"terms/{term.name}/weight"] = term.weight
        if term.teacher is not None:
            continue
        values = [s.value for s in scores[term.reward_name, term.stream] if s.value is not None]
        metrics[f"terms/{term.name}/reward_mean"] = mean(values) if values else None
        metrics[f"terms/{term.name}/scored"] = len(values) / len(rollouts[term.stream])  # a share
        right = [score.details.get("correct") for score in scores[term.reward_name, term.stream]]
        known = [found for found in right if isinstance(found, bool)]
        if known:
            metrics[f"terms/{term.name}/correct"] = sum(known) / len(known)  # a share; the mean has partial credit
        guards = [score.details.get("guard") for score in scores[term.reward_name, term.stream]]
        metrics |= {
            f"terms/{term.name}/guards/{guard}": guards.count(guard) for guard in sorted(set(guards) - {None}, key=str)
        }
    for name, members in rollouts.items():
        metrics[f"rollouts/{name}/length_mean"] = mean([len(r.completion.token_ids) for r in members])
        metrics[f"rollouts/{name}/finished"] = mean([float(r.completion.finished) for r in members])
        metrics[f"rollouts/{name}/distinct"] = len({r.response for r in members}) / len(members)
    return metrics


class Clock:
    """Seconds since the row of metrics before, by what they went into."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._spent: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """The time since the last mark went into `name`."""
        now = time.perf_counter()
        self._spent[name] = self._spent.get(name, 0.0) + now - self._last
        self._last = now

    def metrics(self) -> dict[str, float]:
        """`time/<name>_s`; the next row begins."""
        found = {f"time/{name}_s": spent for name, spent in self._spent.items()}
        self._spent.clear()
        return found


def mean(values: Sequence[float]) -> float:
    """Mean of a non-empty list."""
    return sum(values) / len(values)


def facts(metrics: Mapping[str, Any], terms: Sequence[Term]) -> dict[str, str]:
    """What the progress line shows."""
    shown = {term.name: _shown(metrics, term) for term in terms}
    if "policy/kl_nats" in metrics:
        shown["KL"] = f"{metrics['policy/kl_nats']:.3f}"
    for key, value in metrics.items():
        if key.startswith("monitor/") and key.endswith("/false_positive_rate"):
            shown["false yes"] = f"{value:.2f}"
    return shown | {"tokens/s": f"{metrics['tokens_per_s']:.0f}"}


def _shown(metrics: Mapping[str, Any], term: Term) -> str:
    """Mean reward of a term, with the share that is right where its reward says so; the KL to a teacher."""
    if term.teacher is not None:
        return f"{metrics[f'terms/{term.name}/reverse_kl']:.3f} nats"
    mean, right = metrics[f"terms/{term.name}/reward_mean"], metrics.get(f"terms/{term.name}/correct")
    if mean is None:
        return "unscored"
    return f"{mean:.3f}" if right is None else f"{mean:.3f} ({right:.0%} right)"
