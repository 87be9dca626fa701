"""Trackio: a database on this machine, or a Space of the Hugging Face hub."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from yonder.trackers.base import About, Settings, flat_settings


class Trackio:
    """One run of a project; runs are told apart by name."""

    def __init__(self, settings: Settings, about: About, run: str | None, rows: int) -> None:
        self._trackio: Any = import_module("trackio")
        self.run = run or f"{about.name}-{uuid4().hex[:8]}"
        self._run: Any = self._trackio.init(
            project=settings["project"], name=self.run, space_id=settings["space"], private=True, embed=False,
            config=flat_settings(about.recipe), resume="allow", auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """One row."""
        self._run.log(dict(values), step=step)

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        """An alert."""
        level = self._trackio.AlertLevel.WARN
        self._run.alert(title=f"{stage}, step {step}: {rule}", text=message, level=level, step=step)

    def page(self, path: Path) -> None:
        """An artifact of type `report`."""
        self._run.log_artifact(str(path), name="page", type="report")

    def flush(self) -> None:
        """Its own thread writes within a second."""

    def close(self, status: str) -> None:
        """Waits until everything is written."""
        self._run.finish()
