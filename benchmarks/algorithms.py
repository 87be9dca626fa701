"""The algorithms side by side on the demo: the same warm-up, data, judge and number of completions, several seeds.

python benchmarks/algorithms.py FOLDER [SEEDS] [NAME ...]        # default: 3 seeds, every variant

FOLDER/results.jsonl gets a line for each variant and seed; those that are there are not run again. The table goes to
FOLDER/table.md. Two updates an iteration, where the demo has one: with one the ratio is always 1, and clips, GSPO and
CISPO have nothing to do. One thread, so that a machine's cores don't decide bits.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from yonder import load_recipe, run

COMMON: dict[str, Any] = {"epochs": 2, "steps": 100, "group_size": 8, "kl.beta": 0.003}
WITHOUT_KL = ("dr-grpo", "dapo")  # as published; no reference is loaded
TAUGHT = "grpo, reverse KL in the judge's place"
VARIANTS: dict[str, dict[str, Any]] = {
    "ppo": {"algorithm": "ppo", "ppo.value_coef": 0.1},
    "ppo, head warm-up": {
        "algorithm": "ppo", "ppo.value_coef": 0.1, "ppo.head_warmup": 10, "ppo.value_lr": 0.001,
        "ppo.stop_gradient": "true",
    },
    "grpo": {"algorithm": "grpo"},
    "grpo, without std": {"algorithm": "grpo", "normalise": "none"},
    "grpo, dual clip": {"algorithm": "grpo", "dual_clip": 3},
    "grpo, cut left out": {"algorithm": "grpo", "truncated": "mask"},
    "grpo, kl adaptive": {"algorithm": "grpo", "kl.target": 0.05},
    "grpo, kl in the reward": {"algorithm": "grpo", "kl.place": "reward"},
    "grpo, one step off": {"algorithm": "grpo", "one_step_off": "true", "importance_cap": 2.0},
    "grpo, importance cap": {"algorithm": "grpo", "importance_cap": 2.0},
    "grpo, dynamic sampling": {"algorithm": "grpo", "dynamic.refills": 2, "dynamic.tolerance": 0.05},
    TAUGHT: {"algorithm": "grpo"},
    "ppo, bootstrap": {"algorithm": "ppo", "ppo.value_coef": 0.1, "truncated": "bootstrap"},
    "ppo, one value output": {"algorithm": "ppo", "ppo.value_coef": 0.1, "ppo.value_per_term": "false"},
    "dr-grpo": {"algorithm": "dr-grpo"},
    "dapo": {"algorithm": "dapo", "overlong.margin": 6},
    "gspo": {"algorithm": "gspo"},
    "cispo": {"algorithm": "cispo"},
    "rloo": {"algorithm": "rloo"},
    "reinforce++": {"algorithm": "reinforce++"},
    "reinforce++-baseline": {"algorithm": "reinforce++-baseline"},
}  # fmt: skip


def one(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Train the demo's `distill` stage with one variant and measure it on the held-out questions."""
    knobs = COMMON | VARIANTS[name]
    if VARIANTS[name]["algorithm"] in WITHOUT_KL:
        knobs |= {"kl.beta": 0.0}
    overrides = [
        f"output_dir={folder}/runs/seed-{seed}",
        f"seed={seed}",
        "threads=1",
        "evaluation.checkpoints=[distill]",
    ]
    overrides += [f"distill.{key}={value}" for key, value in knobs.items()]
    if name == TAUGHT:
        overrides += taught(folder, seed)
    begun = time.perf_counter()
    summary = run(load_recipe("demo", overrides), ["evaluation"])  # the warm-up is shared by the variants of a seed
    rows = (folder / f"runs/seed-{seed}/stages/distill/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(row) for row in rows]
    accuracy = summary["results"]["distill"]["held_out"]["accuracy"]
    last = metrics[-10:]
    return {
        "variant": name,
        "seed": seed,
        "accuracy": accuracy["value"] if isinstance(accuracy, dict) else accuracy,
        "kl_nats": statistics.fmean(row.get("policy/kl_nats", 0.0) for row in last),  # 0: there is no reference
        "length": statistics.fmean(row["rollouts/unlabeled/length_mean"] for row in last),
        "train_s": sum(value for row in metrics for key, value in row.items() if key.startswith("time/")),
        "wall_s": time.perf_counter() - begun,
    }


def taught(folder: Path, seed: int) -> list[str]:
    """The terms with a teacher in the judge's place: a student of the same shape, after SFT on what the judge was
    fitted on."""
    controls = folder / f"runs/teacher-{seed}"
    stage = "sft_on_judge_labels"
    run(load_recipe("demo-controls", [f"output_dir={controls}", f"seed={seed}", "threads=1"]), [stage])
    model = max((controls / f"stages/{stage}/checkpoints").glob("step-*")) / "policy"
    terms = "{reward: correct, data: labeled, weight: 0.3}, {reward: teacher, data: unlabeled, weight: 0.7}"
    return [f"rewards.teacher={{kind: teacher, model: {model}}}", f"distill.terms=[{terms}]"]


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and range over seeds, best first."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["variant"], []).append(row)
    lines = [
        "| variant | held-out accuracy | seeds | KL, nats a token | length | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in sorted(by_name.items(), key=lambda pair: -statistics.fmean(r["accuracy"] for r in pair[1])):
        shares = [row["accuracy"] for row in found]
        means = {
            key: statistics.fmean(row[key] for row in found) for key in ("accuracy", "kl_nats", "length", "train_s")
        }
        free = VARIANTS[name]["algorithm"] in WITHOUT_KL
        kl = "not measured" if free else f"{means['kl_nats']:.3f}"
        lines.append(
            f"| {name} | {means['accuracy']:.1%} ({min(shares):.1%} to {max(shares):.1%}) | {len(found)} | "
            f"{kl} | {means['length']:.1f} | {means['train_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(target: str, seeds: str = "3", *names: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["variant"], row["seed"]) for row in rows}
    for seed in range(int(seeds)):
        for name in names or VARIANTS:
            if (name, seed) not in done:
                rows.append(one(folder, name, seed))
                with results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    (folder / "table.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
