"""What a run of a sweep says goes to a file; the terminal has a line a run, and a bar."""

import time
from typing import TextIO

from yonder.training.progress import Progress

EVERY_S = 30.0


class LoggedProgress:
    """Lines of a loop now and then, and everything said, to a file; the loops also to a bar."""

    def __init__(self, file: TextIO, bar: Progress) -> None:
        self._file, self._bar = file, bar
        self._title, self._total, self._written = "", 0, 0.0

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A loop begins."""
        self._title, self._total, self._written = title, total, time.monotonic()
        self.say(f"{title}: {done}/{total}")
        self._bar.start(title, total, done)

    def advance(self, done: int, facts: dict[str, str]) -> None:
        """Where it is: on the bar each time, in the file every half minute and at the end."""
        self._bar.advance(done, facts)
        if done >= self._total or time.monotonic() - self._written >= EVERY_S:
            self._written = time.monotonic()
            text = "  ".join(f"{name} {value}" for name, value in facts.items())
            self.say(f"{self._title}: {done}/{self._total}  {text}".rstrip())

    def finish(self) -> None:
        """The loop is over."""
        self._bar.finish()

    def say(self, message: str) -> None:
        """A line in the file."""
        self._file.write(f"{message}\n")
        self._file.flush()
