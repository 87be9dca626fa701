"""What a tracker is, and the names of metrics, which are the same in all of them."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

Settings = Mapping[str, Any]
_UNUSUAL = re.compile(r"[^A-Za-z0-9_. :/-]")  # what MLflow refuses
_NOT_METRICS = ("step", "time_s")  # of a row: where it stands


class About(NamedTuple):
    """A run, for a tracker."""

    folder: Path
    name: str
    recipe: Mapping[str, Any]  # as written out, without secrets
    text: str  # the same as YAML


class Tracker(Protocol):
    """One run in one tracker. Every method may raise anything: what failed is tried again later."""

    run: str
    """The tracker's own id of the run."""

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """Metrics of one step of a stage; the names have the stage in front. `time_s`: when, seconds since 1970."""
        ...

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        """Something that happened: a trip of the monitor, a refit."""
        ...

    def page(self, path: Path) -> None:
        """The run's page, whole."""
        ...

    def flush(self) -> None:
        """What was logged is out of this process."""
        ...

    def close(self, status: str) -> None:
        """The run is over: `done`, `failed` (stopped and killed ones too)."""
        ...


Open = Callable[[Settings, About, str | None, int], Tracker]
"""(settings, run, id of a run that goes on, rows that it has) -> the tracker; without an id a new run begins."""


def flat(stage: str, row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row by full name, nested ones with `/`; what is None or no number is left out."""
    found: dict[str, float] = {}
    for key, value in row.items():
        name = metric_name(f"{stage}/{key}")
        if isinstance(value, Mapping):
            found |= flat(name, value)
        elif key not in _NOT_METRICS and isinstance(value, bool | int | float) and math.isfinite(value):
            found[name] = float(value)
    return found


def metric_name(name: str) -> str:
    """The name with `_` for whatever a tracker refuses."""
    return _UNUSUAL.sub("_", name)


def flat_settings(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """A recipe as `stages.0.kind: warmup`; what is None or empty is left out."""
    if isinstance(recipe, Mapping):
        inner = [(str(key), value) for key, value in recipe.items()]
    elif isinstance(recipe, list | tuple):
        inner = [(str(place), value) for place, value in enumerate(recipe)]
    else:
        return {} if recipe is None else {prefix: recipe}
    found: dict[str, Any] = {}
    for key, value in inner:
        found |= flat_settings(value, f"{prefix}.{key}" if prefix else key)
    return found
