"""The monitor: asks its watches after every iteration and tells which rules have begun to hold."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from yonder.schema import Trip
from yonder.training.rollout import StreamRollouts, StreamScores, Term
from yonder.training.stream_watches import LengthWatch, RunStates, RunWatch, UnscoredWatch, ZeroWatch
from yonder.training.watches import MonitorRules, ProbeWatch, Watch


class Monitor:
    """A rule that begins to hold is told once; it can trip again after a window in which it never did. Resumable."""

    def __init__(
        self,
        rules: MonitorRules,
        terms: Sequence[Term],
        probes: Sequence[Term],
        verifier: str | None,
        runs: Mapping[str, RunStates] | None = None,
    ) -> None:
        """Probes are compared with the term whose reward is the `verifier`; without one they are left alone. `runs`:
        stream of programs -> what says whether they run."""
        self.window = rules.window
        self._watches: dict[str, Watch] = {}
        for probe in probes if verifier is not None else ():
            self._watches[f"probe {probe.name}"] = ProbeWatch(rules, probe, verifier or "")
            self._watches[f"unscored {probe.name}"] = UnscoredWatch(rules, probe)
        for term in terms:
            if term.reward_name != verifier:
                self._watches[f"length {term.name}"] = LengthWatch(rules, term)
                if runs and term.stream in runs:
                    self._watches[f"runs {term.name}"] = RunWatch(rules, term, runs[term.stream])
            self._watches[f"unscored {term.name}"] = UnscoredWatch(rules, term)
            self._watches[f"zero {term.name}"] = ZeroWatch(rules, term)
        self._quiet: dict[str, int] = {}  # rules that were told -> iterations since they last held

    def observe(self, step: int, rollouts: StreamRollouts, scores: StreamScores) -> tuple[dict[str, float], list[Trip]]:
        """Metrics of this iteration, and the rules that hold now and did not before."""
        metrics: dict[str, float] = {}
        trips: list[Trip] = []
        self._quiet = {name: count + 1 for name, count in self._quiet.items() if count < self.window}
        for watch in self._watches.values():
            found, findings = watch.observe(step, rollouts, scores)
            metrics |= found
            for trip in (finding.trip for finding in findings if finding.holds):
                trips += [] if trip.name in self._quiet else [trip]
                self._quiet[trip.name] = 0
        return metrics, trips

    def clear(self) -> None:
        """The policy was put back: all windows begin anew; what was measured at the start stays."""
        for watch in self._watches.values():
            watch.clear()
        self._quiet = {}

    def reweigh(self, terms: Sequence[Term]) -> None:
        """The terms have other weights now: one without weight need not teach anything."""
        for term in terms:
            watch = self._watches.get(f"zero {term.name}")
            if isinstance(watch, ZeroWatch):
                watch.term = term

    def restart(self, rewards: Collection[str]) -> None:
        """The scores of these rewards are others now: what their probes measured at the start is measured anew."""
        for watch in self._watches.values():
            if isinstance(watch, ProbeWatch) and watch.probe.reward_name in rewards:
                watch.restart()
                self._quiet = {n: count for n, count in self._quiet.items() if not n.endswith(f" {watch.probe.name}")}

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        watches = {name: watch.state() for name, watch in self._watches.items()}
        return {"watches": watches, "quiet": dict(self._quiet)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state; a watch that it does not know, of a setting switched on since, begins here."""
        for name, watch in self._watches.items():
            if name in state["watches"]:
                watch.load_state(state["watches"][name])
        self._quiet = dict(state["quiet"])
