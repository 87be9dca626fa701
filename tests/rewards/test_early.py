"""Answers asked for in the background: each once, in the order asked for; an error once; nothing outlives a drop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from yonder.errors import ModelError
from yonder.rewards.early import Early


class Asked:
    """Answers a number with its tenfold, as soon as it may."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.open = self.most_open = 0
        self.lock = threading.Lock()

    def __call__(self, questions: Sequence[int]) -> list[int]:
        with self.lock:
            self.calls.append(list(questions))
            self.threads.add(threading.current_thread().name)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        self.gate.wait(5)
        with self.lock:
            self.open -= 1
        if -1 in questions:
            raise ModelError("no such judge; mend it")
        return [10 * question for question in questions]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def running() -> int:
    return sum(thread.name == "early" for thread in threading.enumerate())


def test_without_a_beginning_the_caller_asks_all_at_once() -> None:
    asked = Asked()
    asked.gate.set()
    early = Early(asked, threads=2, at_once=1)
    assert early.take([3, 1, 3]) == [30, 10, 30]
    assert asked.calls == [[3, 1, 3]]
    assert asked.threads == {"MainThread"}


def test_what_was_begun_is_taken_and_the_rest_is_asked_in_the_order_of_the_caller() -> None:
    asked = Asked()
    early = Early(asked, threads=2, at_once=2)
    early.begin([1, 2, 1])
    until(lambda: asked.calls == [[1, 2]])
    early.begin([2, 3])  # 2 is on its way
    until(lambda: asked.calls == [[1, 2], [3]])
    early.begin([4])  # nobody is free
    asked.gate.set()
    assert early.take([5, 3, 1, 4, 2, 5]) == [50, 30, 10, 40, 20, 50]
    assert sorted(question for call in asked.calls for question in call) == [1, 2, 3, 4, 5]
    assert asked.most_open == 2
    assert asked.threads == {"early"}
    until(lambda: running() == 0)
    assert early.take([1]) == [10]  # an answer is taken once
    assert asked.calls[-1] == [1] and asked.threads == {"early", "MainThread"}


def test_an_error_is_raised_once_where_it_is_taken_and_nothing_is_asked_after_it() -> None:
    asked = Asked()
    early = Early(asked, threads=1, at_once=1)
    early.begin([-1, 1, 2])
    asked.gate.set()
    until(lambda: running() == 0)
    with pytest.raises(ModelError, match="no such judge; mend it"):
        early.take([1, 2, -1])
    assert asked.calls == [[-1]]
    early.drop()
    assert early.take([1, 2]) == [10, 20]


def test_after_a_drop_no_thread_stays_and_nothing_old_is_taken() -> None:
    asked = Asked()
    early = Early(asked, threads=2, at_once=1)
    early.begin([1, 2, 3, 4])
    until(lambda: len(asked.calls) == 2)
    early.drop()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "early")
    threading.Timer(0.05, asked.gate.set).start()
    early.drop(wait=True)
    until(lambda: running() == 0)
    assert sorted(asked.calls) == [[1], [2]]
    assert early.take([1]) == [10]
    assert len(asked.calls) == 3


def test_many_threads_may_begin() -> None:
    asked = Asked()
    asked.gate.set()
    early = Early(asked, threads=3, at_once=2)
    tellers = [threading.Thread(target=early.begin, args=([i, i + 1, i + 2],)) for i in range(0, 300, 2)]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    assert early.take(range(301)) == [10 * i for i in range(301)]
    assert sorted(question for call in asked.calls for question in call) == list(range(301))
    assert asked.most_open <= 3
