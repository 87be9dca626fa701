"""Event files for TensorBoard, written by its own package (no torch, no tensorflow)."""

import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from yonder.trackers.base import About, Settings


class Tensorboard:
    """One folder of event files a run; a run that goes on adds a file."""

    def __init__(self, settings: Settings, about: About, run: str | None, rows: int) -> None:
        self.run = run or uuid4().hex[:8]
        writer: Any = import_module("tensorboard.summary.writer.event_file_writer")
        self._event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._writer: Any = writer.EventFileWriter(str(about.folder / settings["folder"] / self.run))
        if run is None:
            self._text("recipe", "".join(f"    {line}\n" for line in about.text.splitlines()), 0)

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """One event a step."""
        found = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(found, step, time_s)

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        """A text."""
        self._text(f"{stage}/events", f"{rule}: {message}", step)

    def page(self, path: Path) -> None:
        """Nothing: TensorBoard keeps no files, and the page lies beside it."""

    def flush(self) -> None:
        """To the file."""
        self._writer.flush()

    def close(self, status: str) -> None:
        """TensorBoard knows no end of a run."""
        self._writer.close()

    def _text(self, tag: str, text: str, step: int) -> None:
        metadata: Any = import_module("tensorboard.plugins.text.metadata").create_summary_metadata(tag, "")
        tensor: Any = import_module("tensorboard.util.tensor_util").make_tensor_proto([text], shape=(1,))
        self._add([self._summary.Value(tag=tag, metadata=metadata, tensor=tensor)], step, time.time())

    def _add(self, values: list[Any], step: int, time_s: float) -> None:
        self._writer.add_event(self._event(step=step, wall_time=time_s, summary=self._summary(value=values)))
