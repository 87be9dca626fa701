"""vLLM inside this process, tried out in vLLM's environment: prints what it found as JSON."""

from __future__ import annotations

import gc
import json
import os
import random
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.slow.demo_student import PROMPTS, TEMPERATURE, demo_policy, gap, move
from yonder.engines.checking import Rules
from yonder.engines.colocated import ColocatedSampler
from yonder.engines.vllm_inside import Room, VLLMInside
from yonder.errors import ModelError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.lora import Lora, add_lora
from yonder.models.policy import Policy
from yonder.schema import Rollout

ROOM = Room(tokens=324, sequences=32, dtype="float32", memory_share=0.3, cache_gib=0.25, eager=True)
RULES = Rules(300, 24, 512, TEMPERATURE, 0.1)


def sampler(policy: Policy, room: Room = ROOM) -> ColocatedSampler:
    return ColocatedSampler(lambda: VLLMInside(policy, room), policy, PromptEncoder(policy.tokenizer, 300), RULES)


def ids(rollouts: list[Rollout]) -> list[tuple[int, ...]]:
    return [rollout.completion.token_ids for rollout in rollouts]


def process() -> list[Any]:
    """What of the process an engine must leave alone; vLLM's own variables may stay."""
    environment = sorted((k, v) for k, v in os.environ.items() if not k.startswith("VLLM_"))
    numbers = [torch.rand(1).item(), random.random(), float(np.random.rand())]
    return [numbers, environment, torch.set_num_threads is SET_THREADS, torch.get_num_threads(), gc.get_freeze_count()]


SET_THREADS = torch.set_num_threads


def seeded() -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)


def renewed_weights() -> dict[str, Any]:
    """Weights moved between steps; the same seed again; told of each rollout; the process left alone."""
    policy = demo_policy(1)
    seeded()
    before = process()
    seeded()
    live = sampler(policy)
    found: dict[str, Any] = {"gaps": [], "stale": [], "told": True}
    for step in range(4):
        live.refresh(step)
        told: list[Rollout] = []
        rollouts = live.sample(PROMPTS, 8, TEMPERATURE, step, finished=told.extend)
        found["told"] &= sorted(told, key=repr) == sorted(rollouts, key=repr)
        found["gaps"].append(gap(policy, rollouts))
        if step < 3:
            move(policy, 0.01, step)
            found["stale"].append(gap(policy, rollouts))
    found["process"] = process() == before
    live.refresh(4)
    found["same"] = ids(live.sample(PROMPTS, 8, TEMPERATURE, 3)) == ids(rollouts)
    found["other"] = ids(live.sample(PROMPTS, 8, TEMPERATURE, 4)) != ids(rollouts)
    found["different"] = len(set(ids(rollouts)))
    return found


def greedy_ends() -> dict[str, Any]:
    """Greedy completions and their ends beside those of our own sampler."""
    policy = demo_policy(2)
    live = sampler(policy)
    live.refresh(0)
    own = PolicySampler(policy, live.encoder, 24, 64)
    first = live.sample(PROMPTS, 1, None, 0)
    found: dict[str, Any] = {"greedy": ids(first) == ids(own.sample(PROMPTS, 1, None, 0))}
    live.encoder.end_ids = (first[0].completion.token_ids[3], first[1].completion.token_ids[1])
    theirs, ours = live.sample(PROMPTS, 2, None, 0), own.sample(PROMPTS, 2, None, 0)
    found["ends"] = [r.completion.finished for r in theirs]
    found["cut"] = [(r.completion.token_ids, r.completion.text, r.completion.finished) for r in theirs] == [
        (r.completion.token_ids, r.completion.text, r.completion.finished) for r in ours
    ]
    return found


def adapter() -> dict[str, Any]:
    """An adapter that is merged on the way."""
    policy = demo_policy(3)
    add_lora(policy.model, Lora(rank=4), 0)
    live = sampler(policy)
    gaps: list[float] = []
    for step in range(2):
        move(policy, 0.05, step)
        live.refresh(0)
        gaps.append(gap(policy, live.sample(PROMPTS, 4, TEMPERATURE, 0)))
    return {"adapter": gaps}


def kept_head() -> dict[str, Any]:
    """A head that is not sent on its own is found out."""
    import yonder.engines.colocated as module

    whole = module.as_saved
    module.as_saved = lambda model, state: {k: v for k, v in whole(model, state).items() if k != "lm_head.weight"}
    try:
        sampler(demo_policy(1)).refresh(0)
    except ModelError as error:
        return {"kept head": str(error)}
    finally:
        module.as_saved = whole
    return {"kept head": ""}


def too_large() -> dict[str, Any]:
    """More memory than there is: one sentence."""
    try:
        sampler(demo_policy(1), replace(ROOM, cache_gib=1e6)).refresh(0)
    except ModelError as error:
        return {"too large": str(error)}
    return {"too large": ""}


if __name__ == "__main__":
    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    for part in (renewed_weights, greedy_ends, adapter, kept_head, too_large):
        made |= part()
        gc.collect()
    print(json.dumps(made), file=sys.stdout, flush=True)
