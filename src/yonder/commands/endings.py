"""How a process ends: signals that ask for it, its sentence and exit code, also where torchrun is between it and who
started it.

torchrun starts all processes again when one ends with another code than 0, and its own code is then 1. So what a
restart cannot mend ends with 0 there, and YONDER_CODE_FILE names a file in which process 0 leaves its code.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from yonder.errors import YonderError
from yonder.signals import StopRequest

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_S = 5.0  # under torchrun: a scheduler signals all processes, and torchrun passes its own signal on to them
CODE_FILE = "YONDER_CODE_FILE"
SETTLE_S = 2.0  # torchrun looks for nodes that want to join every 0.1 s (--monitor-interval)


def guarded(command: Callable[[], Any]) -> None:
    """Run a command and turn errors into sentences."""
    keep_code(None)
    try:
        command()
    except YonderError as error:
        leave(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        say(f"{name}{error.strerror or error}; check disk space and permissions")
        keep_code(2)
        sys.exit(2)
    except SystemExit as end:
        keep_code(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except BaseException:
        keep_code(1)
        raise
    keep_code(0)


@contextmanager
def alike() -> Generator[None]:
    """Around what every process finds out by itself before it meets the others: on one node all have the same error.

    On several they may not (a recipe that only one node has), and those without it would wait.
    """
    try:
        yield
    except YonderError as error:
        error.of_all = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
        raise


def leave(error: YonderError) -> NoReturn:
    """End with an error's sentence and code; of an error that all processes have, process 0 alone speaks."""
    settled = error.of_all and "TORCHELASTIC_RUN_ID" in os.environ
    if not (error.of_all and rank()):
        code = f" (code {error.exit_code}; torchrun gets 0, so that it does not start all again)" if settled else ""
        say(f"{error}{code}")
    keep_code(error.exit_code)
    if settled and os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        time.sleep(
            SETTLE_S
        )  # if all stopped because a node joins, torchrun ends this process here and starts all again
    sys.exit(0 if settled else error.exit_code)


def say(text: str) -> None:
    """A line of its own on standard error, also where other processes write there: one write, its end included."""
    sys.stderr.write(f"yonder: {text}\n")
    sys.stderr.flush()


def rank() -> int:
    """This process's number among those of the run."""
    return int(os.environ.get("RANK", "0")) if "MASTER_ADDR" in os.environ else 0


def keep_code(code: int | None) -> None:
    """Write process 0's exit code where YONDER_CODE_FILE says; None: it runs, and there is none."""
    name = os.environ.get(CODE_FILE)
    if not name or rank():
        return
    try:
        if code is None:
            Path(name).unlink(missing_ok=True)
        else:
            Path(name).write_text(f"{code}\n", encoding="ascii")
    except OSError as error:
        say(f"{name} ({CODE_FILE}) cannot be written ({error.strerror}); the exit code is {code}")


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
