"""A guard against getting slower: counts and ratios of small parts beside those in smoke.json.

python benchmarks/smoke.py [--store]        # exit status 1 where one is worse by more than 15 %

Counts repeat to the digit whatever else the machine does: floating-point operations and operator calls of a
generation, a judgement and an update, and the Python calls around them. Ratios of seconds see what counts do not, as
a slower kernel: each is the best of up to three tries, since a busy machine only makes them worse. `--store` writes
what was found; say in the commit why it changed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from flops import counter
from generate import alternated
from programs import programs
from pydantic_monty import Monty
from step_parts import SMALL, Step
from torch.utils._python_dispatch import TorchDispatchMode
from turns import in_turns, ratio
from update import shared_and_apart

from yonder.sandbox import Sandbox

STORED = Path(__file__).parent / "smoke.json"
LOSS, TRIES, GROUP, BUDGET = 0.15, 3, 8, 2048
Figures = dict[str, float]


class Calls(TorchDispatchMode):
    """Counts operators."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def python_calls(work: Callable[[], object]) -> int:
    """Functions entered, of Python and of C."""
    count = 0

    def see(frame: Any, event: str, value: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def counts() -> Figures:
    """Of the parts of a step; less is better."""
    torch.manual_seed(0)
    step = Step(SMALL, torch.device("cpu"), torch.float32, BUDGET)
    sequences = step.judged(GROUP)
    batch = step.batch(step.rollouts(GROUP))
    parts: dict[str, Callable[[], object]] = {
        "generate": lambda: step.rollouts(GROUP),
        "judge": lambda: step.score(sequences, True),
        "update": lambda: step.learn(batch),
    }
    found: Figures = {}
    for name, work in parts.items():
        work()
        flops = counter()
        with flops:
            work()
        with Calls() as calls:
            work()
        found[f"{name}: MFLOP"] = round(flops.get_total_flops() / 1e6)
        found[f"{name}: operators"] = calls.count
        found[f"{name}: Python calls"] = python_calls(work)
    return found


def sandboxed() -> float:
    """Seconds of bare Monty sessions over those of the sandbox, which adds a process, limits and a prelude."""
    turns = 0
    with Sandbox(workers=1) as sandbox, Monty(min_processes=1, max_processes=1) as monty:

        def ours() -> None:
            nonlocal turns
            turns += 1
            sandbox.run(programs(300, str(turns)))

        def bare() -> None:
            for program in programs(300, "bare"):
                with monty.checkout() as session:
                    session.feed_run(f"{program}\nsolution()")

        seconds = in_turns({"ours": ours, "bare": bare}, 5)
    return ratio(seconds["bare"], seconds["ours"]).median


def sampled() -> float:
    """Seconds of transformers' `generate` over those of the sampler."""
    seconds = alternated(3, 8, 8, 48, 1)
    return ratio(seconds["transformers"], seconds["yonder"]).median


RATIOS: dict[str, Callable[[], float]] = {  # seconds of another way over ours; more is better
    "generate: transformers / ours": sampled,
    "update: each by itself / shared": lambda: ratio(*shared_and_apart(3, GROUP, 1)).median,
    "programs: bare Monty / sandbox": sandboxed,
}


def worse(name: str, found: float, stored: float) -> bool:
    """Whether a figure is worse than it was by more than the loss that is let pass."""
    return found < stored * (1 - LOSS) if name in RATIOS else found > stored * (1 + LOSS)


def best(name: str, work: Callable[[], float], stored: float | None) -> float:
    """The best of some tries, as many as it takes; the worst of all where nothing is stored yet."""
    found: list[float] = []
    while len(found) < TRIES and (stored is None or not found or worse(name, max(found), stored)):
        found.append(work())
    return round(min(found) if stored is None else max(found), 3)


def figures(stored: Figures) -> Iterator[tuple[str, float]]:
    """All of them, as they are measured."""
    yield from counts().items()
    yield from ((name, best(name, work, stored.get(name))) for name, work in RATIOS.items())


def main() -> None:
    """Measure and compare, or store."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--store", action="store_true")
    storing = options.parse_args().store
    stored: Figures = {} if storing else json.loads(STORED.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    found, failed = Figures(), list[str]()
    print("| | stored | found | |\n|---|---|---|---|", flush=True)
    for name, value in figures(stored):
        found[name] = value
        if name not in stored or worse(name, value, stored[name]):
            failed.append(name)
        said = "" if storing or name not in failed else "WORSE" if name in stored else "not stored"
        print(f"| {name} | {stored.get(name, '')} | {value} | {said} |", flush=True)
    if storing:
        STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif failed:
        sys.exit(f"worse by more than {LOSS:.0%}: {', '.join(failed)}; if it is meant, `--store` and say why")


if __name__ == "__main__":
    main()
