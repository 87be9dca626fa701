"""MLflow: a server, or a database on this machine."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from yonder.trackers.base import About, Settings, flat_settings

AT_ONCE = 1000  # metrics of one request, MLflow's limit
PARAMS_AT_ONCE = 100
LONGEST = 500  # characters of a parameter that every server takes
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Mlflow:
    """One run of an experiment, through MLflow's client."""

    def __init__(self, settings: Settings, about: About, run: str | None, rows: int) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._entities: Any = import_module("mlflow.entities")
        uri = settings["uri"] or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        self._client: Any = import_module("mlflow.tracking").MlflowClient(uri)
        if run is None:
            known = self._client.get_experiment_by_name(settings["experiment"])
            experiment = known.experiment_id if known else self._client.create_experiment(settings["experiment"])
            run = str(self._client.create_run(experiment, run_name=about.name).info.run_id)
            self._describe(run, about)
        else:
            self._client.update_run(run, status="RUNNING")
        self.run = run

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        """One request a step, or one for each thousand metrics."""
        at = int(time_s * 1000)
        found = [self._entities.Metric(name, value, at, step) for name, value in values.items()]
        for part in _parts(found, AT_ONCE):
            self._client.log_batch(self.run, metrics=part)

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        """A tag of the run."""
        self._client.set_tag(self.run, f"event.{stage}.{step}.{rule}", message)

    def page(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self.run, str(path))

    def flush(self) -> None:
        """Every request was answered."""

    def close(self, status: str) -> None:
        """FINISHED or FAILED."""
        self._client.set_terminated(self.run, "FINISHED" if status == "done" else "FAILED")

    def _describe(self, run: str, about: About) -> None:
        """The recipe as parameters, the longest cut, and whole as an artifact."""
        params = [self._entities.Param(key, str(value)[:LONGEST]) for key, value in flat_settings(about.recipe).items()]
        for part in _parts(params, PARAMS_AT_ONCE):
            self._client.log_batch(run, params=part)
        self._client.log_text(run, about.text, "recipe.yaml")


def _parts(whole: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [whole[i : i + size] for i in range(0, len(whole), size)]
