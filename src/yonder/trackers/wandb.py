"""Weights & Biases, on its server or in files that `wandb sync` uploads later."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from yonder.trackers.base import About, Settings


class Wandb:
    """One run; each stage has an x axis of its own, `STAGE/step`."""

    def __init__(self, settings: Settings, about: About, run: str | None, rows: int) -> None:
        self._wandb: Any = import_module("wandb")
        self.run = run or uuid4().hex[:8]
        self._rows = rows  # its own count of what was logged, which must never fall
        self._stages: set[str] = set()
        folder = about.folder / "trackers"
        quiet = self._wandb.Settings(
            console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run: Any = self._wandb.init(
            project=settings["project"], entity=settings["entity"], mode=settings["mode"], tags=settings["tags"],
            id=self.run, name=about.name, resume="allow", dir=str(folder), settings=quiet,
        )  # fmt: skip
        self._run.config.update(dict(about.recipe), allow_val_change=True)

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """One row of its history."""
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({**values, f"{stage}/step": step}, step=self._rows)
        self._rows += 1

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        """A tag of the run, and the sentence in its summary."""
        self._run.tags = tuple(dict.fromkeys((*(self._run.tags or ()), f"event:{rule}"[:64])))
        self._run.summary[f"{stage}/event/{rule}/message"] = message

    def page(self, path: Path) -> None:
        """An artifact of type `report`."""
        artifact = self._wandb.Artifact(f"page-{self.run}", type="report")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def flush(self) -> None:
        """Its own process has what was logged."""

    def close(self, status: str) -> None:
        """Waits until everything is sent."""
        self._run.finish(exit_code=0 if status == "done" else 1)
