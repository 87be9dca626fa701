"""One of several processes in `test_served_together.py`: rollouts from a server, then none.

python -m torch.distributed.run --nproc-per-node N -m tests.slow.served_together STRATEGY URL FOLDER
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.training.tools import tiny_policy
from yonder.engines.checking import Rules
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.errors import DataError, RolloutError, YonderError
from yonder.models.encoding import PromptEncoder
from yonder.models.lora import Lora
from yonder.models.policy import Policy
from yonder.schema import Prompt, Rollout
from yonder.training.distributed import CPU, World
from yonder.training.divided import shard
from yonder.training.meeting import begun
from yonder.transport import Limits, Transport

PROMPTS = [Prompt(id=str(i), question=f"q{i}", text=f"Question {i}:") for i in range(5)]
LORA = Lora(rank=4)


def policy_of(world: World) -> Policy:
    """A policy with an adapter that does something."""
    policy = tiny_policy(layers=2, lora=LORA)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in policy.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    shard(world, policy)
    return policy


def move(policy: Policy) -> None:
    """Train, as it were."""
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)


def sentence(work: Any, kind: type[YonderError]) -> str:
    """What it says as it fails."""
    try:
        work()
    except kind as error:
        return str(error)
    raise AssertionError("it did not fail")


def said(world: World, sampler: ServedSampler, folder: Path) -> dict[str, Any]:
    """What this process gets."""
    rollouts: list[list[Rollout]] = []
    for step in range(3):
        if step:
            move(sampler.policy)
        sampler.refresh(step)
        rollouts.append(sampler.sample(PROMPTS, 2, 1.0, 7))
    long = [*PROMPTS, Prompt(id="long", question="", text="word " * 99)]
    errors = [sentence(lambda: sampler.sample(long, 2, 1.0, 7), DataError)]
    world.gather([0])
    if world.first:
        (folder / "ready").touch()
    while not (folder / "down").exists():
        time.sleep(0.05)
    errors.append(sentence(lambda: sampler.sample(PROMPTS, 2, 1.0, 8), RolloutError))
    errors.append(sentence(lambda: sampler.refresh(3), RolloutError))
    return {"rollouts": rollouts, "errors": errors, "sent": sampler.sent}


def main(strategy: str, url: str, output: str) -> None:
    """Write what each process found."""
    torch.set_num_threads(1)
    folder, limits = Path(output), Limits(concurrency=2, timeout_s=5, deadline_s=1.0)
    with begun(strategy, False, 120.0, CPU) as world:
        policy = policy_of(world)
        server = VLLMServer(Transport((url,), limits, None, "vLLM server"), "policy")
        rules = Rules(32, 6, 64, 1.0, 0.1, seeds=True)
        encoder = PromptEncoder(policy.tokenizer, 32)
        sampler = ServedSampler([server], policy, encoder, rules, folder / "weights", world.channel(60.0))
        torch.save(said(world, sampler, folder), folder / f"found.{world.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
