"""What follows a trip: which checkpoint is good, which weights move, when to stop."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from yonder.schema import Trip
from yonder.training.rollout import Term

UNSCORED, ZERO = "unscored", "zero"
NEEDS_NO_ROLLBACK = {UNSCORED, ZERO}  # nothing was learned from such scores, so the policy is as good as it was


@dataclass(slots=True)
class Safety:
    """Decides what to do about a trip and remembers the last good checkpoint; resumable.

    A checkpoint is good once `settle` steps have followed it without a trip: it is then older than the window of any
    trip to come.
    """

    action: str  # "warn", "stop", "rollback" or "refit"
    settle: int  # steps
    max_rollbacks: int
    verifier: Term | None  # the labeled term that gets the weight
    refits: Collection[str] = ()  # rewards that a refit mends
    good_step: int | None = None
    rollbacks: int = 0
    _young: list[int] = field(default_factory=list[int])  # saved after the good one, not yet settled

    def saved(self, step: int) -> None:
        """A checkpoint was written; the first one, from before any training, is good."""
        if self.good_step is None:
            self.good_step = step
        elif step > self.good_step:
            self._young = [*(young for young in self._young if young != step), step]

    def calm(self, step: int) -> None:
        """An iteration ended at `step` without a trip."""
        settled = [saved for saved in self._young if saved <= step - self.settle]
        if settled:
            self.good_step = max(settled)
            self._young = [saved for saved in self._young if saved > self.good_step]

    @property
    def kept(self) -> set[int]:
        """Steps whose checkpoints must stay."""
        if self.action == "warn":
            return set()
        return {*self._young, *([] if self.good_step is None else [self.good_step])}

    def decide(self, trip: Trip, terms: Sequence[Term], returned: bool = False) -> str:
        """`warn`, `stop` (as things are), `stop-at-good`, `rollback` or `refit`. `returned`: another trip of this
        iteration has brought the good weights back, which counts once."""
        if trip.rule == UNSCORED and any(
            (term.reward_name, term.stream) == (trip.reward, trip.stream) for term in terms
        ):
            return "stop"
        if trip.rule in NEEDS_NO_ROLLBACK:  # a probe without scores; a task too hard for now
            return "warn"
        trained = any(term.reward_name == trip.reward and term.weight > 0 for term in terms)
        if self.action == "warn" or not trained:
            return "warn"  # also where nothing is trained on the reward (any more)
        possible = {"rollback": self.verifier is not None, "refit": trip.reward in self.refits}
        if possible.get(self.action, False) and (returned or self.rollbacks < self.max_rollbacks):
            return self.action
        return "stop-at-good"

    def returned(self, step: int) -> None:
        """The policy at `step` has the weights of the good checkpoint again; the next save makes this the good one."""
        self.rollbacks += 1
        self._young = []
        self.good_step = step

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"good_step": self.good_step, "rollbacks": self.rollbacks, "young": list(self._young)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.good_step, self.rollbacks, self._young = state["good_step"], state["rollbacks"], list(state["young"])


def moved(terms: Sequence[Term], reward: str, verifier: Term) -> list[Term]:
    """The weight of every term with this reward moved to the verifiable one: lambda grows, the sum stays."""
    freed = sum(term.weight for term in terms if term.reward_name == reward)
    return [
        replace(term, weight=0.0)
        if term.reward_name == reward
        else replace(term, weight=term.weight + freed)
        if term.name == verifier.name
        else term
        for term in terms
    ]
