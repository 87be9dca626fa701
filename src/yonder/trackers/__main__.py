"""The process that sends a run's files to its trackers: `python -m yonder.trackers`, started by `starting`.

Its first line of input says what to send; the second, at the end, how the run ended. Input that ends without it: the
run was killed. Each line of its output is a sentence for the user; what libraries print goes to standard error.
"""

import json
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from yonder.errors import StorageError
from yonder.storage import only_one
from yonder.trackers.sending import Sending, followers, join

PATIENCE_S = 60.0  # at the end, for what is still to be sent
LOCK_PATIENCE_S = 90.0  # for the process of a run that was killed


def main() -> None:
    """Send until the input says that the run is over, then what is left."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # meant for the run, whose end is told by the input
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told: dict[str, Any] = json.loads(sys.stdin.readline())

    def say(sentence: str) -> None:
        with suppress(OSError):  # nobody listens any more
            print(sentence, file=out, flush=True)

    folder = Path(told["folder"])
    with ExitStack() as stack:
        if _alone(stack, folder / "trackers"):
            threads = [Sending(follower, say) for follower in followers(told["trackers"], folder)]
            for thread in threads:
                thread.start()
            status = sys.stdin.readline().strip() or "failed"
            for thread in threads:
                thread.end(status)
            join(threads, PATIENCE_S)
        else:
            say(f"trackers: another process still sends {folder}; the same command sends the rest later")
    sys.stdout.flush()
    os._exit(0)  # what a library still has to do at exit may wait for a server for ever


def _alone(stack: ExitStack, folder: Path) -> bool:
    """Whether no other process sends this run, now or within a while."""
    end = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            stack.enter_context(only_one(folder))
            return True
        except StorageError:
            if time.monotonic() > end:
                return False
            time.sleep(0.5)


if __name__ == "__main__":
    main()
