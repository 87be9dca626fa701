"""Which checkpoint a stage hands on: the best on the development split, or the last where there is none."""

from typing import Any


class Selection:
    """Keeps the best step so far and counts evaluations without a new best."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_step: int | None = None
        self.best: float | None = None
        self._since = 0

    def observe(self, step: int, accuracy: float) -> bool:
        """Note an evaluation; True when it is a new best (of equals the first stays)."""
        if self.best is None or accuracy > self.best:
            self.best, self.best_step, self._since = accuracy, step, 0
            return True
        self._since += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience > 0 and self._since >= self.patience

    def summary(self, last_step: int) -> dict[str, Any]:
        """The chosen step, and the figure that chose it (None: it is the last)."""
        return {"chosen_step": last_step if self.best_step is None else self.best_step, "chosen_by": self.best}

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"best_step": self.best_step, "best": self.best, "since": self._since}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.best_step, self.best, self._since = state["best_step"], state["best"], state["since"]
