"""One of several processes in `test_distributed.py`: the same recorded rollouts, learned from together.

python -m torch.distributed.run --nproc-per-node N -m tests.slow.together STRATEGY OUTPUT [CHECKPOINTS]

STRATEGY: that of the recipe, or `fsdp2-offload`, where what is divided waits in CPU memory.
"""

import sys
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tests.training.tools import Silent, tiny_policy
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.lora import AdapterOff, Lora
from yonder.models.policy import Policy
from yonder.schema import Prompt, Score
from yonder.training.advantages import Estimator
from yonder.training.checkpoint import CheckpointStore, load_policy_weights, load_state
from yonder.training.distributed import CPU, World
from yonder.training.divided import gathered, shard
from yonder.training.learner import Learner
from yonder.training.meeting import begun
from yonder.training.plan import Plan
from yonder.training.records import Recorder
from yonder.training.rollout import StreamRollouts, StreamScores, Term
from yonder.training.update import LossSettings

GROUP, EPOCHS, STEPS, HALF = 4, 2, 6, 3  # steps of so many updates each, that the clip has something to do
TERMS = [
    Term("correct", "labeled", 0.5, None),
    Term("judge", "unlabeled", 0.3, None),
    Term("reranker", "unlabeled", 0.2, None),
]
CLIP, CLIP_LORA = 0.1, 0.02  # what some tokens pass in a second epoch
WIDE = 100_000  # tokens of a micro-batch: all at once
NARROW = 48  # a few rows at once
LORA = Lora(rank=4, alpha=8.0)
Case = tuple[str, int, Lora | None]  # algorithm, tokens of a micro-batch, adapter
CASES: tuple[Case, ...] = tuple(product(("ppo", "grpo"), (WIDE, NARROW), (None, LORA)))


def title(case: Case) -> str:
    """A name for its folder."""
    return f"{case[0]}-{case[1]}" + ("-lora" if case[2] else "")


def recorded() -> tuple[StreamRollouts, StreamScores]:
    """Rollouts of unequal length of one policy, and scores that a formula gives; some are missing, and of a few rows
    all."""
    policy = tiny_policy(seed=3)
    sampler = PolicySampler(policy, PromptEncoder(policy.tokenizer, 32), max_completion_tokens=9, batch=256)
    rollouts = {}
    for number, (name, count) in enumerate({"labeled": 3, "unlabeled": 4}.items()):
        prompts = [Prompt(id=str(i), question=f"q{i}", text="word " * i + f"Question {i}:") for i in range(count)]
        found = sampler.sample(prompts, GROUP, 1.0, seed=number)
        cut = [1 + (7 * i) % 9 for i in range(len(found))]
        rollouts[name] = [
            replace(
                r,
                completion=replace(
                    r.completion, token_ids=r.completion.token_ids[:n], logprobs=r.completion.logprobs[:n]
                ),
            )
            for r, n in zip(found, cut, strict=True)
        ]
    scores: dict[tuple[str, str], list[Score]] = {}
    for k, term in enumerate(TERMS):
        values = [((3 + k) * i % 7) / 6 for i in range(len(rollouts[term.stream]))]
        scores[term.reward_name, term.stream] = [
            Score(None if i % 6 == 5 or (k and i % 5 == k) else value, "made") for i, value in enumerate(values)
        ]
    return rollouts, scores


def learner(case: Case, world: World, folder: Path) -> Learner:
    """A policy of two blocks, as the recipe would build it."""
    algorithm, budget, lora = case
    ppo = algorithm == "ppo"
    plan = Plan(
        name="together", seed=0, steps=STEPS * EPOCHS, epochs=EPOCHS, group_size=GROUP, prompts={}, temperature=1.0,
        top_p=1.0, top_k=0, lr=1e-3, schedule="constant", warmup_fraction=0.0, weight_decay=0.01, save_every=1,
        evaluate_every=0, patience=0, max_skipped=3,
    )  # fmt: skip
    policy, other = tiny_policy(3 if ppo else 0, layers=2, lora=lora), tiny_policy(seed=1, layers=2)
    for model in (policy, other):
        shard(world, model)
    return Learner(
        plan=plan,
        policy=policy,
        reference=AdapterOff(policy, policy.model) if lora else other,
        value_outputs=[0, 1, 2],
        estimator=Estimator("value" if ppo else "group", 0.05 if ppo else 0.0, "batch" if ppo else "group"),
        loss=LossSettings(
            CLIP_LORA if lora else CLIP, 0.0 if ppo else 0.05, 0.5 if ppo else 0.0, 0.2, 1.0, 1.0, budget
        ),
        recorder=Recorder(folder, silent=not world.first),
        progress=Silent(),
        world=world,
    )


def steps(made: Learner, begin: int, end: int) -> list[dict[str, float]]:
    """Learn from the recorded rollouts again and again; the metrics of each step's last update."""
    rollouts, scores = recorded()
    made.rollout_is_old = False
    found = []
    for step in range(begin, end):
        batch = made.prepare(rollouts, scores, TERMS, step + 1)  # no step 0: the recorded rollouts are another policy's
        found.append(made.learn(batch, rollouts, scores, TERMS, EPOCHS * step))
    return found


def weights(policy: Policy, world: World) -> dict[str, torch.Tensor]:
    """All weights, on process 0."""
    found = gathered(dict(policy.named_parameters()), world)
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def offloaded(policy: Policy) -> list[bool]:
    """Of each weight that is divided, whether FSDP2 keeps it in CPU memory."""
    groups = [unit._get_fsdp_state()._fsdp_param_group for unit in policy.modules() if hasattr(unit, "unshard")]
    return [weight.offload_to_cpu for group in groups if group is not None for weight in group.fsdp_params]


def store_of(case: Case, world: World, folder: Path) -> CheckpointStore:
    """Where its checkpoints are; with an adapter they hold that alone."""
    return CheckpointStore(folder / title(case) / "checkpoints", 1, case[2] is not None, world)


def fresh(world: World, folder: Path) -> dict[str, Any]:
    """Every case from its beginning, with a checkpoint half-way."""
    found = {}
    for case in CASES:
        made = learner(case, world, folder)
        waiting = offloaded(made.policy)
        metrics = steps(made, 0, HALF)
        store = store_of(case, world, folder)
        store.save(HALF, made.policy, {"learner": made.state()}, None)
        half, state = weights(made.policy, world), deepcopy(gathered(made.state(), world))
        metrics += steps(made, HALF, STEPS)
        end = weights(made.policy, world)
        found[title(case)] = {"metrics": metrics, "half": half, "end": end, "state": state, "offloaded": waiting}
        if case[2]:
            store.merge(HALF, made.policy)
    return found


def continued(world: World, folder: Path, checkpoints: Path) -> dict[str, Any]:
    """Every case from the checkpoint that others wrote half-way."""
    found = {}
    for case in CASES:
        made = learner(case, world, folder)
        checkpoint = store_of(case, world, checkpoints).latest()
        assert checkpoint is not None
        load_policy_weights(checkpoint, made.policy)
        made.load_state(load_state(checkpoint)["learner"])
        half = weights(made.policy, world)
        again = deepcopy(gathered(made.state(), world))  # what is loaded is what would be written
        metrics = steps(made, HALF, STEPS)
        found[title(case)] = {
            "metrics": metrics,
            "half": half,
            "end": weights(made.policy, world),
            "state": again,
        }
    return found


def main(strategy: str, output: str, checkpoints: str | None = None) -> None:
    """Write what process 0 found."""
    torch.set_num_threads(1)
    folder = Path(output)
    strategy, _, offload = strategy.partition("-")
    with begun(strategy, offload == "offload", 120.0, CPU) as world:
        found = fresh(world, folder) if checkpoints is None else continued(world, folder, Path(checkpoints))
        if world.first:
            torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
