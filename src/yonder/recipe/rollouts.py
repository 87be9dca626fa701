"""Recipe section about who draws the rollouts of a distill stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from yonder.recipe.base import Section
from yonder.recipe.servers import check_urls


class RolloutSettings(Section):
    """Who samples the policy's completions in training: this process, or vLLM servers that are sent the weights before
    every iteration. See docs/rollouts.md."""

    engine: Literal["in-process", "vllm"] = "in-process"
    """in-process: the weights that are trained; vllm: servers, by HTTP. All other fields are for servers."""
    urls: tuple[str, ...] = ()
    """Base URLs (http://host:8000) of vLLM servers, started as docs/rollouts.md says; prompts are dealt out to all."""
    model: str = "policy"
    """The name that the servers know the policy by (`--served-model-name`)."""
    folder: Path | None = None
    """Where weights are left for the servers, which must see it by the same path; `/dev/shm/NAME` is fast on one
    machine. Default: `weights` in the stage's folder."""
    seeds: bool = False
    """Send a seed with every prompt, a function of recipe and step. Slower on GPUs; some vLLM end at one on a CPU."""
    key_env: str | None = None
    """Environment variable that holds the API key."""
    concurrency: int = Field(default=64, gt=0)
    """Most prompts open at once, over all servers; each with a whole group."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Longest wait for one answer, seconds."""
    deadline_s: float = Field(default=600.0, gt=0)
    """Longest wait for a server that is gone, seconds; where none comes back the run saves and ends, and the same
    command continues."""

    @field_validator("urls")
    @classmethod
    def _whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_urls(value)

    @model_validator(mode="after")
    def _reachable(self) -> "RolloutSettings":
        if bool(self.urls) != (self.engine == "vllm"):
            raise ValueError("give `urls` for `engine: vllm`, and none for `engine: in-process`")
        return self
