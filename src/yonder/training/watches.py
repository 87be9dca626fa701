"""What the monitor watches: a probe beside the verifier; `stream_watches` has what needs no labels.

Each watch is told every iteration, says which of its rules hold, and can be saved, continued and begun anew.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from yonder.core.drift import ClusteredMean, Clusters, clustered_mean, growth
from yonder.schema import Trip
from yonder.training.rollout import StreamRollouts, StreamScores, Term, rollout_row
from yonder.training.window import LIKED, Window, agreement, compare

SHOWN = 8  # rollouts kept with a trip
SHOWN_AN_ITERATION = 2


@dataclass(frozen=True, slots=True)
class MonitorRules:
    """See `MonitorSettings` in `recipe/`."""

    window: int
    min_wrong: int
    z: float
    max_false_yes: float
    max_false_yes_growth: float
    max_gap_growth: float
    min_length: float
    max_unscored: float
    max_run_fall: float


class Finding(NamedTuple):
    """A rule, whether it holds now, and what to say of it."""

    holds: bool
    trip: Trip


class Watch(Protocol):
    """One thing that is watched."""

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """Metrics of this iteration, and every rule that can be judged now."""
        ...

    def clear(self) -> None:
        """Begin a new window; what was measured at the start stays."""
        ...

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        ...

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        ...


class ProbeWatch:
    """A reward and the verifier on the same labeled rollouts."""

    def __init__(self, rules: MonitorRules, probe: Term, verifier: str) -> None:
        self.rules = rules
        self.probe = probe
        self.verifier = verifier
        self.window = Window(rules.window)
        self._fooled: deque[list[dict[str, Any]]] = deque(maxlen=rules.window)
        self._first: dict[str, Clusters] = {}

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """Figures of this iteration and of the window, and the rules `gap`, `false-yes-growth` and `false-yes`."""
        stream, name = self.probe.stream, self.probe.reward_name
        opinion, verified = scores[name, stream], scores[self.verifier, stream]
        pairs = compare(rollouts[stream], opinion, verified)
        self.window.add(pairs)
        fooled = [
            (score.value, i)
            for i, (score, truth) in enumerate(zip(opinion, verified, strict=True))
            if score.value is not None and score.value > LIKED and truth.details.get("correct") is False
        ]
        top = [i for _, i in sorted(fooled, reverse=True)[:SHOWN_AN_ITERATION]]
        self._fooled.append(logged(step, stream, top, rollouts, scores))
        metrics = {f"monitor/{name}/{key}": value for key, value in agreement(pairs).items()}
        metrics |= {f"monitor/{name}/window/{key}": value for key, value in self.window.figures().items()}
        return metrics, self._rules() if self.window.full else []

    def _rules(self) -> list[Finding]:
        rules, name, found = self.rules, self.probe.reward_name, list[Finding]()
        gaps, wrong = self.window.gap(), self.window.false_yes()
        gap, false_yes = clustered_mean(gaps), clustered_mean(wrong)
        if gap is not None:
            first, holds = self._since_first("gap", gaps, rules.max_gap_growth)
            said = (
                f"{name} likes labeled rollouts {gap.value - first:+.2f} more than they earn, compared with the start "
                f"(its mean less the share right: {first:+.2f}, now {gap.value:+.2f})"
            )
            found.append(self._finding("gap", holds, said, first, gap))
        if false_yes is not None and false_yes.n >= rules.min_wrong:
            first, holds = self._since_first("false_yes", wrong, rules.max_false_yes_growth)
            said = f"{name} says Yes to {false_yes.value:.0%} of {false_yes.n} verified-wrong rollouts"
            found.append(
                self._finding("false-yes-growth", holds, f"{said}; at the start it was {first:.0%}", first, false_yes)
            )
            surely = false_yes.value - rules.z * false_yes.error
            found.append(self._finding("false-yes", surely > rules.max_false_yes, said, first, false_yes))
        return found

    def _since_first(self, name: str, now: Clusters, most: float) -> tuple[float, bool]:
        """The mean of the first window, and whether it has grown by more than `most`, and surely at all."""
        before = self._first.setdefault(name, now)
        change, first = growth(before, now), clustered_mean(before)
        value = 0.0 if first is None else first.value
        return value, change is not None and change.value > most and change.z > self.rules.z

    def _finding(self, rule: str, holds: bool, said: str, first: float, now: ClusteredMean) -> Finding:
        rows = [row for iteration in reversed(self._fooled) for row in iteration][:SHOWN]
        figures = {"first": first, "now": now.value, "rollouts": now.n}
        return Finding(holds, Trip(rule, self.probe.reward_name, self.probe.stream, said, figures, rows))

    def clear(self) -> None:
        """Begin a new window; what was measured at the start stays."""
        self.window.clear()
        self._fooled.clear()

    def restart(self) -> None:
        """Begin a new first window."""
        self.clear()
        self._first = {}

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        return {"window": self.window.state(), "fooled": list(self._fooled), "first": dict(self._first)}

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        self.clear()
        self.window.load_state(state["window"])
        self._fooled.extend(state["fooled"])
        self._first = dict(state["first"])


def logged(
    step: int, stream: str, indices: Sequence[int], rollouts: StreamRollouts, scores: StreamScores
) -> list[dict[str, Any]]:
    """Some rollouts of a stream with every score they got, as in the rollout log."""
    given = {name: found for (name, of), found in scores.items() if of == stream}
    return [rollout_row(step, stream, rollouts[stream][i], {n: s[i] for n, s in given.items()}) for i in indices]
