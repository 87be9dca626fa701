"""Stopping a run from outside: the first SIGTERM or SIGINT lets it finish its step and save, the second ends it at
once (`endings.listening`)."""

from dataclasses import dataclass

from yonder.errors import Stopped


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked the run to stop; loops look at it once what they just did is saved."""

    asked: bool = False

    def check(self, where: str) -> None:
        """Raise Stopped if it was asked for; `where`: what is finished and saved."""
        if self.asked:
            raise Stopped(f"{where}; stopped as asked, nothing is lost, and the same command continues")
