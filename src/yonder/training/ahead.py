"""Where an iteration's rollouts come from: written now, or one iteration ahead, while those before are trained on.

One-step-off training (Noukhovitch et al. 2024, "Asynchronous RLHF"): the sampler and the trainer never wait for each
other, and every batch after the first is as many updates old as an iteration makes. Importance weights correct it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any, NamedTuple

from yonder.protocols import RolloutEngine, Stream
from yonder.schema import Completion, Prompt, Rollout

Written = dict[str, list[Rollout]]  # of every stream
Draw = Callable[[int], Callable[[], Written]]  # the step that will train on them -> prompts drawn, yet to be answered
Position = Mapping[str, Mapping[str, Any]]  # where the streams stand


class Begun(NamedTuple):
    """Rollouts that are being written."""

    rollouts: Future[Written]
    step: int  # whose weights write them
    before: Position  # before their prompts were drawn


class RolloutSource:
    """Asks the engine for each iteration's rollouts. With `ahead` the next ones are begun before these are trained on:
    beside the trainer where the engine has weights of its own, else before it goes on. Resumable."""

    def __init__(self, draw: Draw, streams: Mapping[str, Stream], engine: RolloutEngine, ahead: bool) -> None:
        self._draw = draw
        self._streams = streams
        self._engine = engine
        self._ahead = ahead
        self._before: Position = {}  # before the prompts of the newest rollouts taken
        self._next: Begun | None = None

    def take(self, step: int, following: int | None) -> tuple[Written, int]:
        """The rollouts that step `step` trains on, and the step whose weights wrote them. `following`: the step after
        them, None at the end."""
        begun = self._next
        self._next, self._before = None, self._position() if begun is None else begun.before
        begun = begun or self._begin(step, step)
        rollouts = begun.rollouts.result()
        if self._ahead and following is not None:
            self._next = begun  # to be taken again should this fail
            self._next = self._begin(following, step)
        return rollouts, begun.step

    def discard(self) -> None:
        """The policy was put back: what it wrote ahead is not trained on."""
        if self._next is not None:
            wait([self._next.rollouts])
        self._next = None

    def undo(self) -> None:
        """The engine failed: the streams stand before what it did not write. Rollouts that it wrote are taken again,
        except where more were asked for beside them."""
        if self._next is None:
            self._go_to(self._before)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint, once the pending rollouts are written. Where the engine failed at them their
        prompts come again."""
        if self._next is None:
            return {}
        if self._next.rollouts.exception() is not None:
            self._go_to(self._next.before)
            self._next = None
            return {}
        found = self._next.rollouts.result()
        rows = {name: [asdict(rollout) for rollout in members] for name, members in found.items()}
        return {"step": self._next.step, "before": self._next.before, "rollouts": rows}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._next = None
        if state:
            rollouts = {name: [_rollout(row) for row in rows] for name, rows in state["rollouts"].items()}
            self._next = Begun(_done(lambda: rollouts), state["step"], state["before"])

    def _begin(self, wanted: int, step: int) -> Begun:
        """Write the rollouts for step `wanted` with the weights of `step`."""
        before = self._position()
        try:
            self._engine.refresh(step)
            write = self._draw(wanted)
            if not (self._engine.beside and wanted != step):
                return Begun(_done(write), step, before)
        except BaseException:
            self._go_to(before)
            raise
        pool = ThreadPoolExecutor(1)
        begun = Begun(pool.submit(write), step, before)
        pool.shutdown(wait=False)
        return begun

    def _go_to(self, position: Position) -> None:
        for name, state in position.items():
            self._streams[name].load_state(state)

    def _position(self) -> Position:
        return {name: stream.state() for name, stream in self._streams.items()}


def _done(write: Callable[[], Written]) -> Future[Written]:
    future = Future[Written]()
    future.set_result(write())
    return future


def _rollout(row: Mapping[str, Any]) -> Rollout:
    return Rollout(Prompt(**row["prompt"]), row["prompt_ids"], Completion(**row["completion"]), row["group"])
