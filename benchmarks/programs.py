"""Programs a second of the sandbox and of other ways, in turns, on the same distinct programs.

python benchmarks/programs.py [TURNS] [MANY]        # default: 5 2000

Solutions of GSM8K, made different by a line of their own; nothing is cached. The other ways: ReFT's (`exec` in a pool
of 8 processes of the package pebble, a new pool for each batch, 1 s a program), one `python -I -S` a program, and
`exec` in this process, the only limit of which is what Python costs. All must find the same numbers. Isolated is
Yonder's alone: no files, no network, no memory of the program before, limits on time, memory and recursion.
"""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from turns import in_turns, keep, ratio

from yonder.data.sources import read_records
from yonder.recipe.data import DataSettings
from yonder.sandbox import Sandbox

FEW = 32  # programs of a small batch
CALL = "\nimport json\nprint(json.dumps(float(solution())))"
Way = Callable[[list[str]], list[float]]


def programs(count: int, mark: str) -> list[str]:
    """Distinct solutions that give a number."""
    found = solutions()
    return [f"{found[i % len(found)]}\n# {mark} {i}" for i in range(count)]


@cache
def solutions() -> list[str]:
    """GSM8K's."""
    return [str(r.program) for r in read_records(DataSettings(source="gsm8k"), "gsm8k") if r.program]


def executed(program: str) -> float:
    """In whatever process this runs."""
    names: dict[str, Any] = {}
    exec(program, names)
    return float(names["solution"]())


def reft(batch: list[str]) -> list[float]:
    """ReFT's way (its repository's `execute_codes`): a pool of 8 for each batch."""
    from pebble import ProcessPool

    found: list[float] = []
    with ProcessPool(max_workers=8) as pool:
        answers = pool.map(executed, batch, timeout=1).result()
        while True:
            try:
                found.append(next(answers))
            except StopIteration:
                return found
            except Exception:  # its own, or of the clock
                found.append(math.nan)


def alone(batch: list[str]) -> list[float]:
    """A Python for each."""
    words = [sys.executable, "-I", "-S", "-c"]
    return [float(subprocess.run([*words, p + CALL], capture_output=True, check=True).stdout) for p in batch]


def in_process(batch: list[str]) -> list[float]:
    """No isolation at all."""
    return [executed(program) for program in batch]


def main(turns: int = 5, many: int = 2000) -> None:
    """Measure and print."""
    number = 0
    found: dict[str, Any] = {}
    with Sandbox() as sandbox:

        def ours(batch: list[str]) -> list[float]:
            return [math.nan if r.value is None else r.value for r in sandbox.run(batch)]

        def fresh(way: Way, count: int) -> Callable[[], list[float]]:
            def work() -> list[float]:
                nonlocal number
                number += 1
                return way(programs(count, str(number)))

            return work

        ways: dict[str, Way] = {
            "yonder": ours,
            "ReFT's way": reft,
            "a Python each": alone,
            "exec, in process": in_process,
        }
        answers = {name: way(programs(FEW, "answers")) for name, way in ways.items()}
        assert all(said == answers["yonder"] for said in answers.values()), answers
        slow = ("a Python each",)
        for count in (FEW, many):
            some = {name: fresh(way, count) for name, way in ways.items() if count == FEW or name not in slow}
            seconds = in_turns(some, turns)
            ratios = {name: ratio(times, seconds["yonder"]) for name, times in seconds.items()}
            print(f"{count} distinct programs; medians of {turns} turns\n")
            print("| | programs/s | times Yonder's seconds |\n|---|---|---|")
            for name, times in seconds.items():
                print(f"| {name} | {count / statistics.median(times):,.0f} | {ratios[name]} |")
            print()
            found[str(count)] = {"seconds": seconds, "ratios": ratios}
    keep("programs", {"turns": turns, **found})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
