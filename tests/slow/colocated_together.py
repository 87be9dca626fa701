"""One of several processes, each with vLLM inside it: prints what it found as JSON.

python -m torch.distributed.run --nproc-per-node N -m tests.slow.colocated_together STRATEGY FOLDER
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.slow.colocated_trial import ROOM, RULES
from tests.slow.demo_student import PROMPTS, TEMPERATURE, demo_policy, gap, move
from yonder.engines.colocated import ColocatedSampler
from yonder.engines.vllm_inside import VLLMInside
from yonder.models.encoding import PromptEncoder
from yonder.schema import Rollout
from yonder.training.distributed import CPU
from yonder.training.divided import load_weights, shard
from yonder.training.meeting import begun


def main(strategy: str, folder: str) -> None:
    """Write what this process got for three versions of the weights."""
    torch.set_num_threads(1)
    with begun(strategy, False, 600, CPU) as world:
        policy, twin = demo_policy(1), demo_policy(1)
        shard(world, policy)
        encoder = PromptEncoder(policy.tokenizer, 300)
        live = ColocatedSampler(lambda: VLLMInside(policy, ROOM, world), policy, encoder, RULES, world)
        found: dict[str, Any] = {"gaps": [], "groups": [], "rollouts": []}
        for step in range(2):
            if step:
                move(twin, 0.01, step)
                load_weights(policy.model, twin.model.state_dict())
            live.refresh(step)
            rollouts: list[Rollout] = live.sample([*PROMPTS, PROMPTS[0]], 4, TEMPERATURE, step)
            found["gaps"].append(gap(twin, rollouts))
            found["groups"].append([rollout.group for rollout in rollouts])
            found["rollouts"].append([rollout.completion.token_ids for rollout in rollouts])
        del live
        gc.collect()
        assert world.gather([world.rank]) == list(range(world.size))  # the engine is gone, our process group is not
        (Path(folder) / f"{strategy}-{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
