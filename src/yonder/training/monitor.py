"""Guards against reward hacking: what a probe reward says on the labeled stream beside what is true there."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yonder.schema import Alarm, Score
from yonder.training.rollout import StreamScores, Term


@dataclass(frozen=True, slots=True)
class MonitorRules:
    """See `recipe.stages.MonitorSettings`."""

    window: int
    max_gap_growth: float
    max_unscored: float


class Monitor:
    """Compares judge and verifier on the same labeled rollouts, and counts what stays unscored; resumable."""

    def __init__(
        self, rules: MonitorRules, terms: Sequence[Term], probes: Sequence[Term], verifier: str | None
    ) -> None:
        self.rules = rules
        self.terms = terms
        self.probes = probes
        self.verifier = verifier
        self._gaps: dict[str, deque[float]] = {probe.name: deque(maxlen=rules.window) for probe in probes}
        self._first: dict[str, float] = {}
        self._unscored: dict[str, deque[float]] = {term.name: deque(maxlen=rules.window) for term in terms}

    def observe(self, scores: StreamScores) -> tuple[dict[str, float], Alarm]:
        """Metrics of this iteration, and what to do."""
        metrics: dict[str, float] = {}
        alarm = Alarm("none")
        for probe in self.probes:
            verified = scores.get((self.verifier or "", probe.stream))
            if verified is None:
                continue
            found = agreement(scores[probe.reward_name, probe.stream], verified)
            metrics |= {f"monitor/{probe.reward_name}/{key}": value for key, value in found.items()}
            if "gap" in found:
                alarm = self._gap(probe, found["gap"], alarm)
        for term in self.terms:
            values = scores[term.reward_name, term.stream]
            share = sum(score.value is None for score in values) / max(1, len(values))
            alarm = self._share(term, share, alarm)
        return metrics, alarm

    def _gap(self, probe: Term, gap: float, alarm: Alarm) -> Alarm:
        recent = self._gaps[probe.name]
        recent.append(gap)
        if len(recent) < self.rules.window:
            return alarm
        mean = sum(recent) / len(recent)
        first = self._first.setdefault(probe.name, mean)
        if mean - first <= self.rules.max_gap_growth:
            return alarm
        return Alarm(
            "warn",
            f"{probe.reward_name} likes labeled rollouts {mean - first:+.2f} more than they earn, "
            "compared with the start: "
            "it is being fooled; refit it or give the verifiable term more weight",
        )

    def _share(self, term: Term, share: float, alarm: Alarm) -> Alarm:
        recent = self._unscored[term.name]
        recent.append(share)
        if len(recent) < self.rules.window or min(recent) < self.rules.max_unscored:
            return alarm
        return Alarm(
            "stop",
            f"{min(recent):.0%} or more of the rollouts of {term.name} stayed unscored "
            f"for {self.rules.window} iterations; "
            "read the reasons in the rollout log",
        )

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "gaps": {name: list(values) for name, values in self._gaps.items()},
            "first": dict(self._first),
            "unscored": {name: list(values) for name, values in self._unscored.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name, values in state["gaps"].items():
            self._gaps[name].extend(values)
        for name, values in state["unscored"].items():
            self._unscored[name].extend(values)
        self._first = dict(state["first"])


def agreement(probe: Sequence[Score], verified: Sequence[Score]) -> dict[str, float]:
    """How a probe's scores stand to the truth on the same rollouts; a figure without cases is left out."""
    pairs = [
        (score.value, bool(truth.details.get("correct")))
        for score, truth in zip(probe, verified, strict=True)
        if score.value is not None and truth.value is not None
    ]
    if not pairs:
        return {}
    right = [value for value, correct in pairs if correct]
    wrong = [value for value, correct in pairs if not correct]
    mean = sum(value for value, _ in pairs) / len(pairs)
    found = {"mean": mean, "verified_mean": len(right) / len(pairs), "gap": mean - len(right) / len(pairs)}
    found["accuracy"] = sum((value > 0.5) == correct for value, correct in pairs) / len(pairs)
    if wrong:
        found["false_positive_rate"] = sum(value > 0.5 for value in wrong) / len(wrong)
    if right:
        found["false_negative_rate"] = sum(value <= 0.5 for value in right) / len(right)
    return found
