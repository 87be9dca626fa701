"""Answers asked for before they are needed, while others work: who needs them takes what is there and waits for the
rest."""

import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from yonder.protocols import EarlyScorer, Reward, ScoresEarly

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Early(Generic[K, V]):
    """Asks in threads of its own, which begin when there is something to ask and end with the last of it.

    An answer is taken once. An error is raised where the answer is taken, and what waited behind it is not asked. The
    threads are daemons: none holds up the end of a process.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Sequence[V]], threads: int, at_once: int) -> None:
        """`ask`: one answer a question, in order; `at_once`: most questions of one call from a thread."""
        self._ask = ask
        self._most = threads
        self._at_once = at_once
        self._lock = threading.RLock()
        self._waiting: deque[tuple[K, Future[V]]] = deque()
        self._answers: dict[K, Future[V]] = {}
        self._threads: set[threading.Thread] = set()

    def begin(self, questions: Sequence[K]) -> None:
        """Ask what is not asked yet; returns at once."""
        with self._lock:
            for question in questions:
                if question not in self._answers:
                    self._answers[question] = Future[V]()
                    self._waiting.append((question, self._answers[question]))
            calls = math.ceil(len(self._waiting) / self._at_once)
            for _ in range(min(calls, self._most - len(self._threads))):
                thread = threading.Thread(target=self._work, name="early", daemon=True)
                self._threads.add(thread)
                thread.start()

    def take(self, questions: Sequence[K]) -> list[V]:
        """One answer a question, in order. Where nothing was begun the caller's own thread asks all of it at once."""
        with self._lock:
            idle = not self._answers
            if not idle:
                self.begin(questions)
            futures = {} if idle else {question: self._answers.pop(question) for question in dict.fromkeys(questions)}
        if idle:
            return list(self._ask(questions))
        found = {question: future.result() for question, future in futures.items()}
        return [found[question] for question in questions]

    def drop(self, wait: bool = False) -> None:
        """Nobody will take what was begun: what waits is not asked, what is being asked is thrown away. `wait`: until
        it is."""
        with self._lock:
            self._waiting.clear()
            self._answers.clear()
            running = list(self._threads)
        for thread in running if wait else ():
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                taken = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
                if not taken:
                    self._threads.discard(threading.current_thread())
                    return
            try:
                found = self._ask([question for question, _ in taken])
                for (_, future), answer in zip(taken, found, strict=True):
                    future.set_result(answer)
            except BaseException as error:  # it belongs to the thread that takes the answer
                with self._lock:
                    taken += self._waiting
                    self._waiting.clear()
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)


def early_scorers(reward: Reward | None, kinds: Collection[str]) -> Sequence[EarlyScorer]:
    """The parts of a reward that can begin before all rollouts are there. `kinds`: those of them that are wanted."""
    return reward.early(kinds) if isinstance(reward, ScoresEarly) else ()
