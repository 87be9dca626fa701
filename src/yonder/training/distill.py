"""RL with weighted terms: the main loop of Yonder ([J] section 2; one iteration is `Distiller.iterate`).

What is ours where the papers are silent: each term's advantages are normalised over its own scored rows; the value
head has one output a term; a rollout without a score is left out of that term's loss and of its normaliser.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from yonder.errors import DataError, RolloutError, TrainingError
from yonder.protocols import RolloutEngine, Stream
from yonder.schema import Trip
from yonder.signals import StopRequest
from yonder.training.ahead import RolloutSource, Written
from yonder.training.figures import Clock, facts, iteration_metrics
from yonder.training.learner import Learner
from yonder.training.optimizer import load_optimizer
from yonder.training.parts import Checkpoints, Overseer, Records, Refitted, Refitter
from yonder.training.plan import Plan
from yonder.training.progress import Progress
from yonder.training.rollback import NEEDS_NO_ROLLBACK, Safety, moved
from yonder.training.rollout import EarlyScores, StreamRollouts, StreamScores, Term, derived_seed, score_streams
from yonder.training.seeding import seeded
from yonder.training.selection import Selection
from yonder.training.signal import gather

log = logging.getLogger("yonder")
NOTHING_LEARNED = (
    "nothing was learned: the rewards never differed, or no rollout had one; read the rollouts (completions may be cut "
    "at policy.max_completion_tokens)"
)


@dataclass(slots=True)
class Distiller:
    """Everything one distill stage works with, built by `yonder.assembly.workshop`."""

    plan: Plan
    learner: Learner
    sampler: RolloutEngine
    streams: Mapping[str, Stream]
    terms: Sequence[Term]
    probes: Sequence[Term]
    monitor: Overseer
    safety: Safety
    recorder: Records
    store: Checkpoints
    progress: Progress
    evaluate: Callable[[], float] | None = None  # development accuracy of the live policy
    refit: Refitter | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    changed: bool = False  # the recipe or data did since the checkpoint, and the user allowed it
    step: int = 0  # optimizer updates made
    stopped: str = ""  # why it ended early
    selection: Selection = field(init=False)
    source: RolloutSource = field(init=False)
    early: EarlyScores = field(init=False)
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.selection = Selection(self.plan.patience)
        self.source = RolloutSource(self.draw, self.streams, self.sampler, self.plan.one_step_off)
        self.early = EarlyScores(self.terms, self.probes, self.plan.score_early)
        self.clock = Clock()

    def run(self) -> dict[str, Any]:
        """Train to the last step, or until patience or a trip ends it; returns what the stage's summary shows.

        Raises TrainingError when nothing can be learned from, or several losses in a row are not finite; Stopped where
        a signal asked for it.
        """
        self._resume()
        self.progress.start(self.plan.name, self.plan.steps, self.step)
        self.clock = Clock()
        with self.early:
            self._train()
        self.progress.finish()
        if self.stopped:
            self.progress.say(f"{self.plan.name} stopped at step {self.step}: {self.stopped}")
        result: dict[str, Any] = {
            "steps": self.step,
            "stopped": self.stopped,
            "rollbacks": self.safety.rollbacks,
            "skipped_steps": self.learner.skips.total,
            "weights": {term.name: term.weight for term in self.terms},
            **self.selection.summary(self.step),
        }
        if self.refit is not None:
            result["refits"] = self.refit.count
        if not self.learner.learned:
            self.progress.say(f"{self.plan.name}: {NOTHING_LEARNED}")
            result["alarm"] = NOTHING_LEARNED
        return result

    def _train(self) -> None:
        """Iterate to the end, with all that comes between iterations."""
        while self.step < self.plan.steps and not self.stopped:
            metrics, trips = self._iterate_or_save()
            rollbacks = self.safety.rollbacks
            self.stopped = self.react(trips, metrics)
            self.clock.mark("other")
            if self.safety.rollbacks == rollbacks:  # else the policy that was gathered from is gone
                self.refit_when_due(metrics)
                self.clock.mark("other" if self.refit is None else "refit")
            best = self.evaluate_when_due(metrics)
            self.clock.mark("evaluate" if "development/accuracy" in metrics else "other")
            if self.selection.exhausted:
                self.stopped = f"no better development accuracy for {self.plan.patience} evaluations"
            self.recorder.metrics(metrics | self.clock.metrics())
            over = self.step >= self.plan.steps or bool(self.stopped)
            must = best or self.safety.rollbacks > rollbacks
            planned = must or due(self.step, self.plan.save_every, self.plan.epochs, over)
            asked = self.learner.world.stopping(self.stop)
            self.clock.mark("other")
            if planned or asked:
                self.save(planned)
                self.clock.mark("save")  # told in the next row
            if asked and not over:
                self.progress.finish()
                self.stop.check(f"{self.plan.name}: saved at step {self.step}")

    def iterate(self) -> tuple[dict[str, Any], list[Trip]]:
        """One iteration: prompts, rollouts, scores, advantages, updates, monitor, records."""
        began, clock = time.perf_counter(), self.clock
        following = self.step + self.plan.epochs
        rollouts, written = self.source.take(self.step, following if following < self.plan.steps else None)
        clock.mark("generate")
        scores = self.score(rollouts)
        gathered = gather(rollouts, scores, self.terms, self.plan.refill, self.draw_again, self.score)
        rollouts, scores = gathered.rollouts, gathered.scores
        if self.refit is not None:
            self.refit.gather(rollouts, scores)
        clock.mark("other")
        chosen, their_scores = gathered.chosen()
        batch = self.learner.prepare(chosen, their_scores, self.terms, self.step)
        clock.mark("reference")
        stats = self.learner.learn(batch, chosen, their_scores, self.terms, self.step)
        clock.mark("update")
        self.step += self.plan.epochs
        observed, trips = self.monitor.observe(self.step, rollouts, scores)
        metrics: dict[str, Any] = {
            "step": self.step, "iteration": self.step // self.plan.epochs, "time_s": time.time(),
            **iteration_metrics(rollouts, scores, self.terms), **gathered.metrics,
            **({"rollouts/staleness_steps": self.step - self.plan.epochs - written} if self.plan.one_step_off else {}),
            **self.learner.metrics(stats, batch), **observed,
            "tokens_per_s": float(batch.completion_mask.sum()) / (time.perf_counter() - began),
        }  # fmt: skip
        self.recorder.rollouts(self.step, rollouts, scores)
        self.progress.advance(self.step, facts(metrics, self.terms))
        clock.mark("other")
        return metrics, trips

    def _iterate_or_save(self) -> tuple[dict[str, Any], list[Trip]]:
        """An iteration; without rollouts the run is saved as it was before it, so that the same command continues."""
        try:
            return self.iterate()
        except RolloutError as error:
            self.source.undo()
            self.progress.finish()
            self.save(planned=False)
            raise type(error)(f"{self.plan.name}: {error}; saved at step {self.step}{error.what_next}") from error

    def react(self, trips: Sequence[Trip], metrics: dict[str, Any]) -> str:
        """Record each trip and do what the recipe says about it; returns why the stage stops, or nothing."""
        stopped, refitted, returned = "", False, False
        for trip in trips:
            action = "warn" if stopped or refitted else self.safety.decide(trip, self.terms, returned)
            found = self.refit.fit(self.step) if self.refit is not None and action == "refit" else None
            if found is not None and not found.done:
                action, trip = "stop-at-good", replace(trip, message=f"{trip.message}; {found.message}")
            self.recorder.event(self.step, action, trip)
            metrics.setdefault("alarm", {"action": action, "rule": trip.rule, "message": trip.message})
            self.progress.say(f"{self.plan.name}, step {self.step}: {trip.message} ({trip.rule}: {action})")
            if action in ("stop", "stop-at-good"):
                stopped = trip.message
            if found is not None:
                self._tell(found, metrics)
                refitted = found.done
            if action in ("rollback", "stop-at-good", "refit") and not returned:
                self._return_to_good(judge_too=action != "refit")
                returned = True  # once an iteration, whatever else trips in it
            if action == "rollback" and self.safety.verifier is not None:
                self.terms = moved(self.terms, trip.reward, self.safety.verifier)
                self.monitor.reweigh(self.terms)
        if all(trip.rule in NEEDS_NO_ROLLBACK for trip in trips):
            self.safety.calm(self.step)
        return stopped

    def refit_when_due(self, metrics: dict[str, Any]) -> None:
        """Fit the reward of the recipe's `refit` at its iterations."""
        last = self.stopped or self.step >= self.plan.steps
        if self.refit is not None and not last and self.refit.due(self.step // self.plan.epochs):
            self._tell(self.refit.fit(self.step), metrics)

    def _tell(self, found: Refitted, metrics: dict[str, Any]) -> None:
        """A refit's event, row and line; the monitor measures the new scores from a start of their own."""
        if self.refit is None:
            return
        name, action = self.refit.name, "refitted" if found.done else "not-refitted"
        self.recorder.event(self.step, action, Trip("refit", name, "", found.message, found.figures))
        self.progress.say(f"{self.plan.name}, step {self.step}: {found.message} (refit: {action})")
        metrics |= {f"refit/{name}/{key}": value for key, value in found.figures.items()}
        if found.done:
            self.monitor.restart(self.refit.rewards)

    def _return_to_good(self, judge_too: bool) -> None:
        """Weights and optimizer of the last good checkpoint. Step and streams go on, so new prompts and seeds
        follow."""
        good = self.safety.good_step
        if good is None:
            raise TrainingError(f"{self.plan.name}: there is no good checkpoint to return to")
        checkpoint = self.store.path(good)
        state = self.store.restore(checkpoint, self.learner.policy)
        load_optimizer(self.learner.optimizer, state["learner"]["optimizer"])
        self.source.discard()
        self.early.drop()
        self.monitor.clear()
        if self.refit is not None and judge_too and self.refit.load_weights(checkpoint, state["refit"]):
            self.monitor.restart(self.refit.rewards)
        self.safety.returned(self.step)
        self.progress.say(f"{self.plan.name}: back to the weights of step {good}")

    def draw(self, step: int, counts: Mapping[str, int] | None = None, refill: int = 0) -> Callable[[], Written]:
        """The next prompts of every stream, as many as the plan says, and what answers them; seeds are functions of the
        step that trains on them, so a resumed run draws the same."""
        plan, counts = self.plan, self.plan.prompts if counts is None else counts
        drawn = {name: stream.next(counts[name]) for name, stream in self.streams.items() if name in counts}

        def write() -> Written:
            found: Written = {}
            for name, prompts in drawn.items():
                seed = derived_seed(plan.seed, plan.name, step, name, *([refill] if refill else []))
                settings = (plan.group_size, plan.temperature, seed, plan.top_p, plan.top_k)
                found[name] = self.sampler.sample(prompts, *settings, finished=self.early.of(name))
            return found

        return write

    def draw_again(self, counts: Mapping[str, int], refill: int) -> Written:
        """More rollouts for this step."""
        found = self.draw(self.step, counts, refill)()
        self.clock.mark("generate")
        return found

    def score(self, rollouts: StreamRollouts, refill: int = 0) -> StreamScores:
        """Every score that a term or a probe wants of these rollouts; a reward of the user's own may draw numbers."""
        with seeded(derived_seed(self.plan.seed, self.plan.name, self.step, "rewards", *([refill] if refill else []))):
            return score_streams(rollouts, self.terms, self.probes, self.clock.mark)

    def evaluate_when_due(self, metrics: dict[str, Any]) -> bool:
        """Development accuracy at its steps and at the last; True when it is a new best."""
        plan, last = self.plan, self.step >= self.plan.steps
        if (
            self.evaluate is None
            or not plan.evaluate_every
            or not due(self.step, plan.evaluate_every, plan.epochs, last)
        ):
            return False
        metrics["development/accuracy"] = self.evaluate()
        return self.selection.observe(self.step, metrics["development/accuracy"])

    def save(self, planned: bool = True) -> None:
        """Write a checkpoint from which `run` continues exactly. One that is not planned never becomes the good one, so
        that a run that was stopped goes on as one that was not."""
        if planned:
            self.safety.saved(self.step)
        state = {
            "step": self.step,
            "learner": self.learner.state(),
            "pending": self.source.state(),  # before the streams, which it may still be drawing from
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "monitor": self.monitor.state(),
            "safety": self.safety.state(),
            "stopped": self.stopped,
            "weights": [term.weight for term in self.terms],
            "selection": self.selection.state(),
        }
        beside = {}
        if self.refit is not None:
            state["refit"], beside = self.refit.state(), {self.refit.folder: self.refit.model}
        self.store.save(self.step, self.learner.policy, state, self.selection.best_step, self.safety.kept, beside)
        self.recorder.saved(self.step)

    def _resume(self) -> None:
        """Continue from the newest whole checkpoint, if there is one."""
        checkpoint = self.store.latest()
        if checkpoint is not None:
            state = self.store.restore(checkpoint, self.learner.policy, verified=True)
            self.learner.load_state(state["learner"])
            self.source.load_state(state["pending"])
            for name, stream in self.streams.items():
                self._go_on(name, stream, state["streams"][name])
            self.monitor.load_state(state["monitor"])
            self.safety.load_state(state["safety"])
            self.stopped = state["stopped"]
            self.terms = [replace(t, weight=w) for t, w in zip(self.terms, state["weights"], strict=True)]
            self.monitor.reweigh(self.terms)
            self.selection.load_state(state["selection"])
            if self.refit is not None:
                self.refit.load_state(state["refit"])
                self.refit.load_weights(checkpoint, state["refit"])
            self.step = int(state["step"])
            self.progress.say(f"{self.plan.name}: resumed at step {self.step}")
        self.recorder.begin(self.step)
        if checkpoint is None and self.safety.action != "warn":
            self.save()  # the first good one

    def _go_on(self, name: str, stream: Stream, state: Mapping[str, Any]) -> None:
        """A stream where it was; one with other questions than before begins anew, if changes are allowed."""
        try:
            stream.load_state(state)
        except DataError:
            if not self.changed:
                raise
            self.progress.say(f"{self.plan.name}: {name} has other questions now; its stream begins anew")


def due(step: int, every: int, stride: int, last: bool) -> bool:
    """Whether one of the `stride` steps just made is a multiple of `every`; the last step always counts."""
    return last or (every > 0 and step // every > (step - stride) // every)
