"""Recipe section about who draws the rollouts of a distill stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from yonder.recipe.base import Section
from yonder.recipe.servers import check_urls

MEMORY = {"gpu_memory_utilization", "cache_gib", "sleep"}  # of `colocate`: may change when a run goes on


class ColocateSettings(Section):
    """vLLM's `LLM` inside the training process, on the policy's device: it is handed the weights in memory, and samples
    while the trainer waits. Needs the package vllm beside Yonder. See docs/rollouts.md."""

    gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    """Part of the device's memory that the engine takes for good: its copy of the weights, its working memory, and key
    and value caches in what is left. On a CPU of the machine's memory."""
    cache_gib: float | None = Field(default=None, gt=0)
    """GiB for keys and values; None: what `gpu_memory_utilization` leaves for them."""
    sleep: bool = False
    """Between rollouts the engine's weights wait in host memory and its cache is dropped (vLLM's sleep mode, level 1),
    so that the trainer has the whole GPU. Not on a CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the engine's weights; auto: what the policy computes in. Where the two differ set `importance_cap`."""
    max_sequences: int = Field(default=256, gt=0)
    """Most completions that are written at once; more wait."""
    eager: bool = False
    """Compile nothing and capture no CUDA graphs: starts sooner, slower on a GPU; right for a CPU."""


class RolloutSettings(Section):
    """Who samples the policy's completions in training: this process's own sampler, or vLLM, which is given the weights
    before every iteration: on servers, or inside this process. See docs/rollouts.md."""

    engine: Literal["in-process", "vllm"] = "in-process"
    """in-process: the weights that are trained; vllm: with `urls` servers, by HTTP, with `colocate` inside this
    process. All other fields are for servers."""
    colocate: ColocateSettings | None = None
    """vLLM inside the training process (`{}` for the defaults) instead of servers."""
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
        given = [bool(self.urls), self.colocate is not None].count(True)
        if given != (self.engine == "vllm"):
            raise ValueError(
                "`engine: vllm` needs `urls` (servers) or `colocate: {}` (inside this process), one of the two; "
                "`engine: in-process` needs neither"
            )
        if self.colocate is not None:
            own = self.model_fields_set - {"engine", "colocate", "urls"}
            wrong = sorted(name for name in own if getattr(self, name) != type(self).model_fields[name].default)
            if wrong:
                raise ValueError(
                    f"{', '.join(f'`{name}`' for name in wrong)} of `rollouts`: for servers only; leave that out"
                )
        return self
