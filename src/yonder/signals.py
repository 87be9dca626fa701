"""Stopping a run from outside: the first SIGTERM or SIGINT lets it finish its step and save, the second ends it at
once."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from yonder.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_S = 5.0  # under torchrun: a scheduler signals all processes, and torchrun passes its own signal on to them


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

    Under torchrun one that comes within 5 s of the first is the first. The handlers before are restored. A signal that
    is ignored stays ignored (nohup), and threads other than the main one cannot listen.
    """
    request = StopRequest()
    first: float | None = None
    same_s = SAME_S if "TORCHELASTIC_RUN_ID" in os.environ else 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is not None:
            if time.monotonic() - first >= same_s:
                raise KeyboardInterrupt
            return
        first = time.monotonic()
        request.asked = True  # perhaps already: another process may have been asked before
        again = f"once more after {same_s:g} s" if same_s else "once more"
        told = f"yonder: {signal.Signals(number).name}: this step is finished and saved; {again} ends at once\n"
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
