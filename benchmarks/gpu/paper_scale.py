"""[J]'s step at paper scale with random weights: rollouts, judge scores and updates a second, beside their floors.

python benchmarks/gpu/paper_scale.py [--tiny] [--repeats 5] [--groups 1 8] [--tflops 989] [--tbps 3.35]

Policy of Galactica-125M's shape, judge of Qwen3-8B's, bfloat16; a prompt has 150 tokens, a completion 150 (none ends
early), a judge prompt 400, of which the responses to one question share 250. `--groups`: completions a question (1 is
[J]'s PPO, more is GRPO). `--tiny`: small models and lengths, so that it runs on a CPU in a test.

Floors are counted, not measured: products at TFLOPS (an H100's peak for dense bfloat16 by default), bytes at TBPS; a
step of sampling must read the weights and the keys and values once. FLOP utilisation: the products' operations over
what TFLOPS would do in the time. A pass asks about 385,461 questions once each.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from step_parts import PAPER, TINY, Step, floors, operations

QUESTIONS = 385_461


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median wall time, after one that is not counted."""
    found: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def measure(step: Step, group: int, tflops: float, tbps: float, repeats: int) -> dict[str, Any]:
    """One group size: seconds of each part and of the whole step, printed beside the floors."""
    rollouts, sequences = step.rollouts(group), step.judged(group)
    assert {len(rollout.completion.token_ids) for rollout in rollouts} == {step.scale.completion}
    gaps = {share: step.score(sequences, share) for share in step.judges}
    apart = max(abs(a - b) for found in gaps.values() for a, b in zip(gaps[False], found, strict=True))
    assert apart < 0.5, f"the judge's gaps differ by {apart} nats with a shared prefix"
    batch = step.batch(rollouts)
    works: dict[str, Callable[[], Any]] = {
        "generate": lambda: step.rollouts(group),
        "judge": lambda: step.score(sequences, False),
        "update with reference": lambda: step.learn(batch),
    }
    if True in step.judges and group > 1:
        works["judge, shared prefix"] = lambda: step.score(sequences, True)
    took = {name: seconds(work, step.device, repeats) for name, work in works.items()}
    least, rows = floors(step, group, tflops, tbps), step.scale.rows
    judged = min(took[name] for name in took if name.startswith("judge"))
    whole = took["generate"] + judged + took["update with reference"]
    print(f"\n{rows} completions, {group} a question; judge's gaps {apart:.1e} nats apart\n")
    flops = operations(step, group)
    used = [name for name in took if not name.startswith("judge") or took[name] == judged]  # one judge
    took["whole step"], least["whole step"] = whole, sum(least[name] for name in used)
    flops["whole step"] = sum(flops[name] for name in used)
    print("| part | s | a second | floor, s | of the floor | FLOP utilisation |\n|---|---|---|---|---|---|")
    for name, time_s in took.items():
        share, utilised = least[name] / time_s, flops[name] / (1e12 * tflops * time_s)
        print(f"| {name} | {time_s:.3f} | {rows / time_s:.0f} | {least[name]:.3f} | {share:.0%} | {utilised:.1%} |")
    hours, floor = (QUESTIONS * group / rows * times["whole step"] / 3600 for times in (took, least))
    if step.scale is PAPER:
        print(f"\none pass over {QUESTIONS:,} questions: {hours:.2f} hours; floor {floor:.3f}")
    return {"group": group, "seconds": took, "floors": least, "flops": flops, "hours": hours, "floor_h": floor}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--groups", type=int, nargs="+", default=[1, 8])
    options.add_argument("--tflops", type=float, default=989.0)
    options.add_argument("--tbps", type=float, default=3.35)
    given = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        sys.exit("there is no CUDA device here; --tiny runs small models on a CPU")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, {given.tflops:g} TFLOP/s and {given.tbps:g} TB/s for the floors")
    step = Step(TINY if given.tiny else PAPER, device)
    found = [measure(step, group, given.tflops, given.tbps, given.repeats) for group in given.groups]
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
