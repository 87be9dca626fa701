"""Seconds of the log-probs before an update and of the update, with and without shared prompts, in turns.

python benchmarks/update.py [TURNS] [DIFFERENT] [THREADS]        # default: 5 8 1

16 questions x 8 completions of random tokens: prompts of 40 to 80, completions of 6 to 20, of which DIFFERENT of the 8
differ. A llama of 1.1M parameters, GRPO with a reference. Both ways must give the same loss and gradient norm.
"""

import json
import random
import statistics
import sys
import time

import torch

from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.models import FreshModel
from yonder.schema import Completion, Prompt, Rollout
from yonder.training.batch import Batch, pack
from yonder.training.rollout import Term
from yonder.training.update import LossSettings, annotate, update

QUESTIONS, GROUP, BUDGET = 16, 8, 16384
CPU = torch.device("cpu")


def policy() -> Policy:
    """Random weights, the same each time."""
    tokenizer = load_tokenizer("yonder:tokenizer")
    return Policy(load_causal_lm(FreshModel(hidden_size=128, layers=4, seed=0), tokenizer, "float32", CPU), tokenizer)


def batch_of(different: int) -> Batch:
    """Scored rollouts."""
    draw = random.Random(0)
    rollouts: list[Rollout] = []
    for question in range(QUESTIONS):
        prompt = tuple(draw.randrange(10, 4000) for _ in range(draw.randint(40, 80)))
        written = [tuple(draw.randrange(10, 4000) for _ in range(draw.randint(6, 20))) for _ in range(different)]
        for i in range(GROUP):
            ids = written[i % different]
            completion = Completion(ids, (-8.0,) * len(ids), "", True)
            rollouts.append(Rollout(Prompt(str(question), "", ""), prompt, completion, question))
    found = pack(rollouts, [rollout.group for rollout in rollouts], 1, CPU)
    some = torch.randn(found.advantages.shape, generator=torch.Generator().manual_seed(1))
    return found.with_(scored=torch.ones_like(found.scored), advantages=some)


def main(turns: int = 5, different: int = GROUP, threads: int = 1) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    student, reference, batch = policy(), policy(), batch_of(different)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    seconds: dict[str, list[tuple[float, float]]] = {"each by itself": [], "shared": []}
    said: dict[str, dict[str, float]] = {}
    for _ in range(turns + 1):
        for name, width in (("each by itself", 0), ("shared", student.trunk.width)):
            settings = LossSettings(0.2, 0.01, 0.0, 0.2, 1.0, 1.0, BUDGET, shared_width=width)
            start = time.perf_counter()
            annotated = annotate(batch, student, reference, settings, [0], rollout_is_old=True)
            middle = time.perf_counter()
            said[name] = update(student, optimizer, annotated, [Term("r", "s", 1.0, None)], settings, [0])
            seconds[name].append((middle - start, time.perf_counter() - middle))
    for key in ("loss", "grad_norm"):
        assert abs(said["shared"][key] - said["each by itself"][key]) < 1e-4 * abs(said["shared"][key]), said
    print(f"{QUESTIONS} x {GROUP} completions, {different} of {GROUP} different; medians of {turns} turns\n")
    print("| prompts | reference, s | update, s |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {' | '.join(f'{statistics.median(part):.3f}' for part in zip(*found[1:], strict=True))} |")
    pairs = zip(seconds["each by itself"][1:], seconds["shared"][1:], strict=True)
    ratios = [sum(plain) / sum(shared) for plain, shared in pairs]
    print(f"\nboth together: {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")
    print(json.dumps({"different": different, "seconds": seconds, "ratios": ratios}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
