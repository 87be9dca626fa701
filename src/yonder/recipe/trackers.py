"""Recipe sections for trackers: who else gets a run's metrics, beside its own files."""

from typing import Annotated, Literal

from pydantic import Field

from yonder.recipe.base import Section


class TensorboardSettings(Section):
    """Event files for TensorBoard. Needs the extra `trackers`, as all trackers do; see docs/trackers.md."""

    kind: Literal["tensorboard"]
    folder: str = "tensorboard"
    """Where the event files go; a relative path begins at the run directory."""


class WandbSettings(Section):
    """Weights & Biases. Its key comes from `wandb login` or the variable WANDB_API_KEY, never from a recipe."""

    kind: Literal["wandb"]
    project: str = Field(default="yonder", min_length=1)
    """Project that the run belongs to."""
    entity: str | None = None
    """User or team; None: the account's default."""
    mode: Literal["online", "offline"] = "online"
    """offline: files in the run directory, which `wandb sync` uploads later."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""


class MlflowSettings(Section):
    """MLflow. Names and passwords of its server come from MLflow's own variables, never from a recipe."""

    kind: Literal["mlflow"]
    uri: str | None = None
    """A server (`http://...`) or a database (`sqlite:///mlflow.db`); None: what MLFLOW_TRACKING_URI says, and else
    `mlflow.db` in the working directory."""
    experiment: str = Field(default="yonder", min_length=1)
    """Experiment that the run belongs to; made where there is none."""


class TrackioSettings(Section):
    """Trackio: a database on this machine (where TRACKIO_DIR says), or a Space of the Hugging Face hub."""

    kind: Literal["trackio"]
    project: str = Field(default="yonder", min_length=1)
    """Project that the run belongs to."""
    space: str | None = None
    """OWNER/NAME of a Space that also gets it, made private where there is none; None: this machine alone."""


TrackerSettings = Annotated[
    TensorboardSettings | WandbSettings | MlflowSettings | TrackioSettings, Field(discriminator="kind")
]
