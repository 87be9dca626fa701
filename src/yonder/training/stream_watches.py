"""What the monitor watches without labels: lengths, programs that run, scores that stay away, scores that are all 0."""

from collections import deque
from collections.abc import Callable
from typing import Any

from yonder.core.drift import Clusters, clustered_mean, growth
from yonder.schema import Score, Trip
from yonder.training.rollout import StreamRollouts, StreamScores, Term
from yonder.training.watches import SHOWN, SHOWN_AN_ITERATION, Finding, MonitorRules, logged
from yonder.training.window import by_prompt

RunStates = Callable[[StreamRollouts, StreamScores], list[Score]]
"""Whether the program of each rollout of a stream runs: a score whose details have the sandbox's `status`, or none."""


class LengthWatch:
    """A rule that needs no labels: the completions of a stream shrink, as those of a policy that found a short cut."""

    def __init__(self, rules: MonitorRules, term: Term) -> None:
        self.rules = rules
        self.term = term
        self._recent: deque[float] = deque(maxlen=rules.window)
        self._first: float | None = None

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """The rule `short`; no metrics, the lengths are there already."""
        stream = self.term.stream
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts[stream]]
        self._recent.append(sum(lengths) / max(1, len(lengths)))
        if len(self._recent) < self.rules.window:
            return {}, []
        now = sum(self._recent) / len(self._recent)
        first = self._first = now if self._first is None else self._first
        rows = logged(step, stream, sorted(range(len(lengths)), key=lengths.__getitem__)[:SHOWN], rollouts, scores)
        said = f"completions of {stream} have shrunk from {first:.1f} tokens at the start to {now:.1f}"
        trip = Trip("short", self.term.reward_name, stream, said, {"first": first, "now": now}, rows)
        return {}, [Finding(now < self.rules.min_length * first, trip)]

    def clear(self) -> None:
        """Begin a new window; what was measured at the start stays."""
        self._recent.clear()

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        return {"recent": list(self._recent), "first": self._first}

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        self.clear()
        self._recent.extend(state["recent"])
        self._first = state["first"]


class UnscoredWatch:
    """Scores that stay away: nothing is learned from such a term."""

    def __init__(self, rules: MonitorRules, term: Term) -> None:
        self.rules = rules
        self.term = term
        self._recent: deque[float] = deque(maxlen=rules.window)

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """The rule `unscored`; no metrics, the shares are there already."""
        name, stream = self.term.reward_name, self.term.stream
        values = scores[name, stream]
        self._recent.append(sum(score.value is None for score in values) / max(1, len(values)))
        if len(self._recent) < self.rules.window:
            return {}, []
        least = min(self._recent)
        said = (
            f"{least:.0%} or more of the rollouts of {self.term.name} stayed unscored for {self.rules.window} "
            "iterations; read the reasons in the rollout log"
        )
        left = [i for i, score in enumerate(values) if score.value is None][:SHOWN]
        trip = Trip("unscored", name, stream, said, {"now": least}, logged(step, stream, left, rollouts, scores))
        return {}, [Finding(least >= self.rules.max_unscored, trip)]

    def clear(self) -> None:
        """Begin a new window."""
        self._recent.clear()

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        return list(self._recent)

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        self.clear()
        self._recent.extend(state)


class ZeroWatch:
    """Scores that are all 0: a policy that never earns anything, or guards that catch all it writes, learns nothing."""

    def __init__(self, rules: MonitorRules, term: Term) -> None:
        self.rules = rules
        self.term = term
        self._zero = 0  # iterations in a row

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """The rule `zero`; no metrics, the means are there already. Unscored rollouts are no zeros."""
        name, stream = self.term.reward_name, self.term.stream
        found = scores[name, stream]
        values = {score.value for score in found} - {None}
        self._zero = self._zero + 1 if values == {0.0} else 0
        guards = [guard for score in found if (guard := score.details.get("guard")) is not None]
        caught = f"; guards caught {len(guards)} of the last {len(found)}" if guards else ""
        said = (
            f"every score of {self.term.name} has been 0 for {self._zero} iterations, so nothing is learned from "
            f"it{caught}; read the reasons in the rollout log"
        )
        none = [i for i, score in enumerate(found) if score.value == 0][:SHOWN]
        rows = logged(step, stream, none, rollouts, scores)
        trip = Trip("zero", name, stream, said, {"iterations": self._zero}, rows)
        return {}, [Finding(self.term.weight > 0 and self._zero >= self.rules.window, trip)]

    def clear(self) -> None:
        """Begin a new window."""
        self._zero = 0

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        return self._zero

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        self._zero = state


class RunWatch:
    """Programs that a judge scores and that run ever more rarely: a judge that likes them does not read them."""

    def __init__(self, rules: MonitorRules, term: Term, runs: RunStates) -> None:
        self.rules = rules
        self.term = term
        self.runs = runs
        self._recent: deque[list[tuple[str, float]]] = deque(maxlen=rules.window)  # prompt, 1 where it does not run
        self._failed: deque[list[dict[str, Any]]] = deque(maxlen=rules.window)
        self._first: Clusters | None = None

    def observe(
        self, step: int, rollouts: StreamRollouts, scores: StreamScores
    ) -> tuple[dict[str, float], list[Finding]]:
        """The share that runs in this iteration, and the rule `not-running`. What the sandbox could not run, or was not
        asked to, counts neither way."""
        stream = self.term.stream
        states = self.runs(rollouts, scores)
        failed = {i: ran != "ok" for i, ran in enumerate(map(_status, states)) if ran is not None}
        self._recent.append([(rollouts[stream][i].prompt.id, float(no)) for i, no in failed.items()])
        shown = [i for i, no in failed.items() if no][:SHOWN_AN_ITERATION]
        extra = {("runs", stream): states}
        self._failed.append(logged(step, stream, shown, rollouts, {**scores, **extra}))
        share = 1 - sum(failed.values()) / len(failed) if failed else None
        metrics = {} if share is None else {f"rollouts/{stream}/running": share}
        return metrics, self._rule() if len(self._recent) == self.rules.window else []

    def _rule(self) -> list[Finding]:
        clusters = by_prompt([pair for iteration in self._recent for pair in iteration])
        now = clustered_mean(clusters)
        if now is None:
            return []
        before = self._first = clusters if self._first is None else self._first
        change, first = growth(before, clusters), clustered_mean(before)
        start = 0.0 if first is None else first.value
        holds = change is not None and change.value > self.rules.max_run_fall and change.z > self.rules.z
        said = (
            f"{1 - now.value:.0%} of the programs that {self.term.name} scores run; at the start it was {1 - start:.0%}"
        )
        rows = [row for iteration in reversed(self._failed) for row in iteration][:SHOWN]
        figures = {"first": 1 - start, "now": 1 - now.value, "rollouts": now.n}
        return [Finding(holds, Trip("not-running", self.term.reward_name, self.term.stream, said, figures, rows))]

    def clear(self) -> None:
        """Begin a new window; what was measured at the start stays."""
        self._recent.clear()
        self._failed.clear()

    def state(self) -> Any:
        """Plain values for a checkpoint."""
        first = None if self._first is None else dict(self._first)
        return {"recent": list(self._recent), "failed": list(self._failed), "first": first}

    def load_state(self, state: Any) -> None:
        """Continue from a state."""
        self.clear()
        self._recent.extend(state["recent"])
        self._failed.extend(state["failed"])
        self._first = state["first"]


def _status(state: Score) -> str | None:
    """The sandbox's word on a program; None where there is none or the sandbox failed."""
    status = state.details.get("status")
    return None if status is None or status == "infrastructure" else str(status)
