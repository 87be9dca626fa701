"""Every tracker of a run in a thread of its own: one that fails or hangs holds up no other."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from yonder.errors import YonderError
from yonder.reporting.redaction import redact_text
from yonder.trackers.base import Open, Settings
from yonder.trackers.following import Follower
from yonder.trackers.mlflow import Mlflow
from yonder.trackers.tensorboard import Tensorboard
from yonder.trackers.trackio import Trackio
from yonder.trackers.wandb import Wandb

KINDS: Mapping[str, Open] = {"tensorboard": Tensorboard, "wandb": Wandb, "mlflow": Mlflow, "trackio": Trackio}
EVERY_S = 5.0
LONGEST_WAIT_S = 300.0  # between two tries of a tracker that fails

Say = Callable[[str], None]


class Sending(threading.Thread):
    """One tracker, from the start of a run to its end."""

    def __init__(self, follower: Follower, say: Say, every_s: float = EVERY_S) -> None:
        super().__init__(name=follower.name, daemon=True)
        self.follower = follower
        self._say = say
        self._every_s = every_s
        self._over = threading.Event()
        self._status = ""

    def run(self) -> None:
        """Send what is new every few seconds, less often while it fails; once more at the end."""
        wait = 0.0
        while not self._over.wait(wait):
            good = self._try(self.follower.send)
            wait = self._every_s if good else min(LONGEST_WAIT_S, max(self._every_s, 2 * wait))
        if not self._try(lambda: self.follower.finish(self._status)):
            self.report()

    def end(self, status: str) -> None:
        """The run is over."""
        self._status = status
        self._over.set()

    def report(self) -> None:
        """Say what the tracker lacks."""
        self._say(
            f"tracker {self.name}: {self.follower.unsent()} rows of metrics are not there after "
            f"{self.follower.failures} failures; the same command sends the rest, metrics.jsonl has all"
        )

    def _try(self, work: Callable[[], None]) -> bool:
        """Whether it went well. Whatever a tracker raises ends here: it must not end the run."""
        try:
            work()
        except Exception as error:
            self.follower.failures += 1
            if self.follower.failures == 1:
                self._say(f"tracker {self.name} failed ({_first_line(error)}); training goes on, it is tried again")
            print(f"tracker {self.name}: {type(error).__name__}: {redact_text(str(error))}", flush=True)
            return False
        return True


def followers(settings: Sequence[Settings], folder: Path) -> list[Follower]:
    """One for each tracker of a recipe; a second one of a kind is `KIND-2`."""
    found: list[Follower] = []
    for place, one in enumerate(settings):
        before = sum(other["kind"] == one["kind"] for other in settings[:place])
        name = f"{one['kind']}-{before + 1}" if before else str(one["kind"])
        found.append(Follower(name, one, folder, KINDS[one["kind"]]))
    return found


def join(threads: Sequence[Sending], patience_s: float) -> None:
    """Wait for the threads to end, all together so long; say which did not."""
    end = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            thread.report()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = redact_text(lines[0] if lines else type(error).__name__)
    return text if isinstance(error, YonderError) else f"{type(error).__name__}: {text}"[:300]
