"""Who draws the rollouts of a stage, from its settings."""

import hashlib
import os
import sys
from pathlib import Path

from yonder.engines.sampler import Rules, ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.errors import ModelError
from yonder.judges.transport import Limits, Transport
from yonder.models.generation import PolicySampler
from yonder.protocols import RolloutEngine
from yonder.recipe.rollouts import RolloutSettings
from yonder.recipe.stages import DistillStage
from yonder.training.distributed import ALONE
from yonder.training.learner import MOST_APART
from yonder.training.sharing import SharedSampler

BROKEN = 0.5  # nats a token beyond which importance weights correct nothing: the weights are not the policy's


def rollout_sampler(stage: DistillStage, own: RolloutEngine, folder: Path) -> RolloutEngine:
    """The stage's sampler: `own`, or one over the servers of `rollouts`; `folder`: the stage's.

    Raises ModelError where the key is missing.
    """
    settings = stage.rollouts
    if settings.engine == "in-process":
        return own
    alone, world = (own.sampler, own.world) if isinstance(own, SharedSampler) else (own, ALONE)
    assert isinstance(alone, PolicySampler)
    key = None if settings.key_env is None else os.environ.get(settings.key_env)
    if settings.key_env is not None and not key:
        raise ModelError(
            f"the environment variable {settings.key_env} (rollouts.key_env) is not set; export the API key"
        )
    concurrency = max(1, settings.concurrency // world.size)
    limits = Limits(concurrency, None, settings.timeout_s, settings.deadline_s)
    rules = Rules(
        longest_prompt=alone.encoder.max_prompt_tokens,
        longest_completion=alone.max_completion_tokens,
        longest=alone.max_total_tokens or sys.maxsize,
        temperature=stage.sampling.temperature,
        most_apart=MOST_APART if stage.importance_cap is None else BROKEN,
        concurrency=concurrency,
        seeds=settings.seeds,
    )
    servers = [VLLMServer(Transport((url,), limits, key, "vLLM server"), settings.model) for url in settings.urls]
    channel = world.channel(settings.deadline_s + settings.timeout_s)
    return ServedSampler(servers, alone.policy, alone.encoder, rules, weights_folder(settings, folder), channel)


def weights_folder(settings: RolloutSettings, stage: Path) -> Path:
    """Where a stage leaves its weights: a folder that no other stage of any run has."""
    if settings.folder is None:
        return stage / "weights"
    return settings.folder / f"yonder-{hashlib.sha256(str(stage.absolute()).encode()).hexdigest()[:12]}"
