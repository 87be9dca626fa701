"""Seconds of the log-probs before an update and of the update, with and without shared prompts, in turns.

python benchmarks/update.py [TURNS] [DIFFERENT] [THREADS]        # default: 5 8 2

16 questions x 8 completions of random tokens: prompts of 40 to 80, completions of 6 to 20, of which DIFFERENT of the 8
differ. A llama of 1.1M parameters, GRPO with a reference. Both ways must give the same loss and gradient norm.
"""

import random
import statistics
import sys
from collections.abc import Callable

import torch
from turns import in_turns, keep, ratio

from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.models import FreshModel
from yonder.schema import Completion, Prompt, Rollout
from yonder.training.batch import Batch, pack
from yonder.training.rollout import Term
from yonder.training.update import LossSettings, annotate, update

QUESTIONS, GROUP, BUDGET = 16, 8, 2048
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


def shared_and_apart(turns: int, different: int, threads: int) -> tuple[list[float], list[float]]:
    """Seconds of reference and update with each completion read by itself, and behind shared prompts."""
    torch.set_num_threads(threads)
    student, reference, batch = policy(), policy(), batch_of(different)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    said: dict[str, dict[str, float]] = {}

    def work(name: str, width: int) -> Callable[[], None]:
        def step() -> None:
            settings = LossSettings(0.2, 0.01, 0.0, 0.2, 1.0, 1.0, BUDGET, shared_width=width)
            annotated = annotate(batch, student, reference, settings, [0], rollout_is_old=True)
            said[name] = update(student, optimizer, annotated, [Term("r", "s", 1.0, None)], settings, [0])

        return step

    ways = {"each by itself": work("each by itself", 0), "shared": work("shared", student.trunk.width)}
    seconds = in_turns(ways, turns)
    for key in ("loss", "grad_norm"):
        assert abs(said["shared"][key] - said["each by itself"][key]) < 1e-4 * abs(said["shared"][key]), said
    return seconds["each by itself"], seconds["shared"]


def main(turns: int = 5, different: int = GROUP, threads: int = 2) -> None:
    """Measure and print."""
    apart, shared = shared_and_apart(turns, different, threads)
    found = ratio(apart, shared)
    print(f"{QUESTIONS} x {GROUP} completions, {different} of {GROUP} different; medians of {turns} turns\n")
    print("| prompts | reference and update, s |\n|---|---|")
    for name, times in (("each by itself", apart), ("shared", shared)):
        print(f"| {name} | {statistics.median(times):.3f} |")
    print(f"\neach by itself over shared: {found}")
    seconds = {"each by itself": apart, "shared": shared}
    keep(f"update_{different}", {"different": different, "seconds": seconds, "ratio": found})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
