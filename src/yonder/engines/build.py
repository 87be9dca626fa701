"""Who draws the rollouts of a stage, from its settings."""

import hashlib
import os
import sys
from pathlib import Path

from yonder.engines.checking import PROBE, Rules
from yonder.engines.colocated import ColocatedSampler
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.engines.vllm_inside import Room, VLLMInside, require_vllm
from yonder.errors import ModelError
from yonder.generation.sampler import PolicySampler
from yonder.models.policy import Policy
from yonder.protocols import RolloutEngine
from yonder.recipe.rollouts import ColocateSettings, RolloutSettings
from yonder.recipe.stages import DistillStage
from yonder.training.distributed import ALONE
from yonder.training.learner import MOST_APART
from yonder.training.sharing import SharedSampler
from yonder.transport import Limits, Transport, Unanswered

PATIENCE_S = 30.0  # with a server that is needed later
BROKEN = 0.5  # nats a token beyond which importance weights correct nothing: the weights are not the policy's


def rollout_sampler(stage: DistillStage, own: RolloutEngine, folder: Path) -> RolloutEngine:
    """The stage's sampler: `own`, or one over the servers of `rollouts` or over vLLM in here; `folder`: the stage's.

    Raises ModelError where the key is missing.
    """
    settings = stage.rollouts
    if settings.engine == "in-process":
        return own
    alone, world = (own.sampler, own.world) if isinstance(own, SharedSampler) else (own, ALONE)
    assert isinstance(alone, PolicySampler)
    concurrency = max(1, settings.concurrency // world.size)
    rules = Rules(
        longest_prompt=alone.encoder.max_prompt_tokens,
        longest_completion=alone.max_completion_tokens,
        longest=alone.max_total_tokens or sys.maxsize,
        temperature=stage.sampling.temperature,
        most_apart=MOST_APART if stage.importance_cap is None else BROKEN,
        concurrency=concurrency,
        seeds=settings.seeds,
    )
    if settings.colocate is not None:
        room = engine_room(settings.colocate, rules, alone.policy)
        return ColocatedSampler(
            lambda: VLLMInside(alone.policy, room, world), alone.policy, alone.encoder, rules, world
        )
    channel = world.channel(settings.deadline_s + settings.timeout_s)
    found = servers(settings, settings.deadline_s, concurrency)
    return ServedSampler(found, alone.policy, alone.encoder, rules, weights_folder(settings, folder), channel)


def engine_room(settings: ColocateSettings, rules: Rules, policy: Policy) -> Room:
    """What the recipe lets an engine in this process take."""
    computes = policy.autocast or next(policy.model.parameters()).dtype
    return Room(
        tokens=min(rules.longest, max(rules.room, PROBE[1] + PROBE[2])),
        sequences=settings.max_sequences,
        dtype=str(computes).removeprefix("torch.") if settings.dtype == "auto" else settings.dtype,
        memory_share=settings.gpu_memory_utilization,
        cache_gib=settings.cache_gib,
        sleep=settings.sleep,
        eager=settings.eager,
    )


def servers(settings: RolloutSettings, deadline_s: float, concurrency: int) -> list[VLLMServer]:
    """The servers of `rollouts`. `deadline_s`: longest wait for one that is gone; `concurrency`: most open requests of
    this process. Raises ModelError where the key is missing."""
    key = None if settings.key_env is None else os.environ.get(settings.key_env)
    if settings.key_env is not None and not key:
        raise ModelError(
            f"the environment variable {settings.key_env} (rollouts.key_env) is not set; export the API key"
        )
    limits = Limits(concurrency, None, settings.timeout_s, deadline_s)
    return [VLLMServer(Transport((url,), limits, key, "vLLM server"), settings.model) for url in settings.urls]


def check_engine(stage: DistillStage) -> None:
    """Raise ModelError where vLLM is to run in this process and is not installed."""
    if stage.rollouts.colocate is not None:
        require_vllm()


def check_servers(stage: DistillStage) -> None:
    """Whether the servers of a stage's rollouts are there, serve the policy's name and take weights.

    Raises ModelError for the first that does not; not waited for longer than PATIENCE_S.
    """
    settings = stage.rollouts
    for server in servers(settings, min(PATIENCE_S, settings.deadline_s), 1):
        try:
            server.check_routes()
        except Unanswered as error:
            raise ModelError(
                f"stage {stage.name}: no vLLM server for the rollouts at {server.url} ({error}); start it (`vllm "
                f"serve`, see docs/rollouts.md) before the run, or mend `rollouts.urls`"
            ) from error


def weights_folder(settings: RolloutSettings, stage: Path) -> Path:
    """Where a stage leaves its weights: a folder that no other stage of any run has."""
    if settings.folder is None:
        return stage / "weights"
    return settings.folder / f"yonder-{hashlib.sha256(str(stage.absolute()).encode()).hexdigest()[:12]}"
