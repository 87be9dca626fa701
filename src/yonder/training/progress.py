"""How a loop tells the terminal where it is."""

from typing import Protocol


class Progress(Protocol):
    """A task's progress; a terminal shows a bar, anything else plain lines."""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A loop of `total` units begins."""
        ...

    def advance(self, done: int, facts: dict[str, str]) -> None:
        """`done` units are done; facts are short, such as {"reward": "0.61"}."""
        ...

    def finish(self) -> None:
        """The loop is over."""
        ...

    def say(self, message: str) -> None:
        """One line that stays."""
        ...


class Silent:
    """Says nothing: for tests and the Python API."""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, done: int, facts: dict[str, str]) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""
