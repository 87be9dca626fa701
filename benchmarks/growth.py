"""How the cost of each part of a step grows with batch, length and number of terms, over 16 times the size.

python benchmarks/growth.py [TURNS] [THREADS]        # default: 5 2; draws docs/assets/growth.svg (needs matplotlib)

Random models of 3.7M parameters in float32, completions of full length, groups of 8. Sizes take turns, so that a busy
moment of the machine meets all of them. Linear growth is a ratio of at most 2 between a size and its double.
"""

import itertools
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from step_parts import SMALL, Scale, Step
from turns import in_turns, keep

from yonder.training.rollout import Term

GROUP, BUDGET, TIMES = 8, 2048, (1, 2, 4, 8, 16)
COLORS = {"generate": "tab:blue", "judge": "tab:orange", "update with reference": "tab:green"}
FIGURE = Path(__file__).parents[1] / "docs" / "assets" / "growth.svg"
Works = dict[str, Callable[[], object]]


def sizes() -> dict[str, list[tuple[int, Scale, int]]]:
    """What grows -> its size, the lengths and the number of terms of each measurement."""
    base = replace(SMALL, rows=16, completion=32)
    short = replace(SMALL, rows=32, completion=8, judged=SMALL.shared + 8)
    return {
        "completions": [(16 * n, replace(base, rows=16 * n), 1) for n in TIMES],
        "tokens a completion": [
            (8 * n, replace(short, completion=8 * n, judged=SMALL.shared + 8 * n), 1) for n in TIMES
        ],
        "terms": [(n, replace(base, rows=32), n) for n in TIMES],
    }


def works_of(step: Step) -> Works:
    """The parts, each to be timed."""
    sequences = step.judged(GROUP)
    batch = step.batch(step.rollouts(GROUP))
    return {
        "generate": lambda: step.rollouts(GROUP),
        "judge": lambda: step.score(sequences, True),
        "update with reference": lambda: step.learn(batch),
    }


def measured(turns: int) -> dict[str, dict[str, dict[int, list[float]]]]:
    """What grows -> part -> size -> seconds of each turn."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for what, cases in sizes().items():
        works: Works = {}
        for size, scale, terms in cases:
            torch.manual_seed(0)
            step = Step(scale, torch.device("cpu"), torch.float32, BUDGET)
            step.terms = [Term(f"reward{i}", "questions", 1.0, None, None) for i in range(terms)]
            parts = works_of(step)
            works |= {f"{part}/{size}": work for part, work in parts.items() if what != "terms" or "update" in part}
        for name, seconds in in_turns(works, turns).items():
            part, _, size = name.partition("/")
            found.setdefault(what, {}).setdefault(part, {})[int(size)] = seconds
    return found


def draw(found: dict[str, dict[str, dict[int, list[float]]]]) -> None:
    """A panel for each thing that grows, both axes logarithmic, a dotted line of linear growth."""
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9}
    figure, panels = pyplot.subplots(1, len(found), figsize=(9, 3), layout="constrained")
    for panel, (what, parts) in zip(panels, found.items(), strict=True):
        for part, times in parts.items():
            middle = {size: statistics.median(seconds) for size, seconds in times.items()}
            panel.plot(list(middle), list(middle.values()), marker="o", markersize=3, color=COLORS[part], label=part)
            first = min(middle)
            panel.plot(list(middle), [middle[first] * size / first for size in middle], ":", color="gray", linewidth=1)
        panel.set(xscale="log", yscale="log", xlabel=what, xticks=list(middle), xticklabels=map(str, middle))
        panel.minorticks_off()
    panels[0].set_ylabel("seconds")
    panels[0].legend(frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None})


def main(turns: int = 5, threads: int = 2) -> None:
    """Measure, print and draw."""
    if find_spec("matplotlib") is None:
        raise SystemExit("the plot needs matplotlib: pip install -e '.[bench]'")
    torch.set_num_threads(threads)
    found = measured(turns)
    record: dict[str, Any] = {}
    print("| grows | part | 16 times the size takes | steepest doubling |\n|---|---|---|---|")
    for what, parts in found.items():
        for part, times in parts.items():
            ordered = [times[size] for size in sorted(times)]
            doublings = [
                statistics.median(b / a for a, b in zip(before, after, strict=True))
                for before, after in itertools.pairwise(ordered)
            ]
            whole = math.prod(doublings)
            print(f"| {what} | {part} | {whole:.1f} times | {max(doublings):.2f} |")
            record[f"{what}: {part}"] = {"seconds": times, "doublings": doublings, "whole": whole}
    draw(found)
    keep("growth", record)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
