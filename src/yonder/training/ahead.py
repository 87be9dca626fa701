"""Where an iteration's rollouts come from: written now, or one iteration ahead, while those before are trained on.

One-step-off training (Noukhovitch et al. 2024, "Asynchronous RLHF"): the sampler and the trainer never wait for each
other, and every batch after the first is as many updates old as an iteration makes. Importance weights correct it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

from yonder.protocols import RolloutEngine
from yonder.schema import Completion, Prompt, Rollout

Write = Callable[[int], dict[str, list[Rollout]]]  # the step that will train on them -> rollouts of every stream


class Written(NamedTuple):
    """Rollouts, and the step whose weights wrote them."""

    rollouts: dict[str, list[Rollout]]
    step: int


class RolloutSource:
    """Asks the sampler for each iteration's rollouts. With `ahead` the next ones are begun before these are trained on:
    beside the trainer where the sampler has weights of its own, else before it goes on. Resumable."""

    def __init__(self, write: Write, sampler: RolloutEngine, ahead: bool) -> None:
        self._write = write
        self._sampler = sampler
        self._ahead = ahead
        self._next: Future[Written] | None = None

    def take(self, step: int, following: int | None) -> Written:
        """The rollouts that step `step` trains on. `following`: the step after them, None at the end."""
        if self._next is None:
            self._begin(step, step)
        found = self._finished()
        self._next = None
        if self._ahead and following is not None:
            self._begin(following, step)
        return found

    def discard(self) -> None:
        """The policy was put back: what it wrote ahead is not trained on."""
        if self._next is not None:
            self._finished()
        self._next = None

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint, once the pending rollouts are written."""
        if self._next is None:
            return {}
        found = self._finished()
        rows = {name: [asdict(rollout) for rollout in members] for name, members in found.rollouts.items()}
        return {"step": found.step, "rollouts": rows}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._next = None
        if state:
            rollouts = {name: [_rollout(row) for row in rows] for name, rows in state["rollouts"].items()}
            self._next = Future()
            self._next.set_result(Written(rollouts, state["step"]))

    def _begin(self, wanted: int, step: int) -> None:
        """Write the rollouts for step `wanted` with the weights of `step`."""
        self._sampler.refresh(step)
        if self._ahead and self._sampler.beside and wanted != step:
            pool = ThreadPoolExecutor(1)
            self._next = pool.submit(lambda: Written(self._write(wanted), step))
            pool.shutdown(wait=False)
        else:
            self._next = Future()
            self._next.set_result(Written(self._write(wanted), step))

    def _finished(self) -> Written:
        assert self._next is not None
        return self._next.result()


def _rollout(row: Mapping[str, Any]) -> Rollout:
    return Rollout(Prompt(**row["prompt"]), row["prompt_ids"], Completion(**row["completion"]), row["group"])
