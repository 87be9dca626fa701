"""The entry point of every worker process: `main("monty")` or `main("confined")`.

It answers programs one after another, knows nothing of pools, caches or retries, and ends when its parent is gone.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from yonder.sandbox.protocol import Limits, Reply, read_frame, trim, wait_for_request, write_frame

Runner = Callable[[str], Reply]


def serve(kind: str, requests: int, answers: int) -> None:
    """Speak the protocol until the parent is gone."""
    first = read_frame(requests)
    if not isinstance(first, dict):
        return
    settings = cast("dict[str, Any]", first)
    parent_pid, core = settings.pop("parent_pid"), settings.pop("core")
    if sys.platform == "linux" and core in os.sched_getaffinity(0):  # not taken from us since
        os.sched_setaffinity(0, {core})
    try:
        run = _make_runner(kind, Limits(**settings))
    except Exception as error:
        write_frame(answers, {"refused": trim(f"{type(error).__name__}: {error}")})
        return
    write_frame(answers, {"ready": kind})
    while wait_for_request(requests, parent_pid):
        batch = read_frame(requests)
        if not isinstance(batch, list):
            return
        for program in cast("list[str]", batch):
            write_frame(answers, run(program))


def _make_runner(kind: str, limits: Limits) -> Runner:
    if kind == "monty":
        from yonder.sandbox.monty import make_runner
    else:
        from yonder.sandbox.confined import make_runner
    return make_runner(limits)


def main(kind: str) -> None:
    """Requests on standard input, answers on standard output."""
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing else may write into the protocol
    with contextlib.suppress(OSError):  # the parent went away while we answered
        serve(kind, 0, answers)
