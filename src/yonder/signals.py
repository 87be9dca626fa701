"""Stopping a run from outside: the first SIGTERM or SIGINT lets it finish its step and save, the second ends it at
once."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from yonder.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked the run to stop; loops look at it once what they just did is saved."""

    asked: bool = False

    def check(self, where: str) -> None:
        """Raise Stopped if it was asked for; `where`: what is finished and saved."""
        if self.asked:
            raise Stopped(f"{where}; stopped as asked, nothing is lost, and the same command continues")


@contextmanager
def listening() -> Generator[StopRequest]:
    """Within it the first SIGTERM or SIGINT fills in the request and the second raises KeyboardInterrupt.

    The handlers before are restored. A signal that is ignored stays ignored (nohup), and threads other than the main
    one cannot listen.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.asked:
            raise KeyboardInterrupt
        request.asked = True
        told = f"yonder: {signal.Signals(number).name}: this step is finished and saved; once more ends at once\n"
        os.write(2, told.encode())  # print may be what was interrupted, and cannot be entered twice

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if main}
    heard = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in heard:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, old in heard.items():
            signal.signal(number, old)
