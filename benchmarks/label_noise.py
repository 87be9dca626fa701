"""What wrong labels cost: `rewards-demo` with a share of the votes replaced by wrong answers.

python benchmarks/label_noise.py FOLDER [SEEDS] [SHARE ...]        # default: seeds 0 to 2, shares 0, 0.1, 0.2 and 0.3

The same votes are wrong in the SFT data and in the reward model's labels. FOLDER/results.jsonl gets a line for each
share and seed; those that are there are not run again. The table goes to FOLDER/table.md. One thread.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yonder import load_recipe, run

COLUMNS = {
    "votes": "votes right",
    "sft": "SFT",
    "pairs": "reward model, pairs in order",
    "auroc": "reward model, AUROC",
    "rl": "RL with it",
}


def one(folder: Path, share: float, seed: int) -> dict[str, Any]:
    """SFT, reward model and RL from votes of which `share` was made wrong; fractions."""
    overrides = [
        f"output_dir={folder}/runs/{share}-{seed}",
        f"seed={seed}",
        "threads=1",
        f"teacher_labels.noise={share}",
        f"labels.noise={share}",
        "table.checkpoints=[sft, reward_model_rl]",
    ]
    summary = run(load_recipe("rewards-demo", overrides), ["table"])
    stages, results = summary["stages"], summary["results"]
    check = json.loads((folder / f"runs/{share}-{seed}/stages/check/judge_check.json").read_text())
    return {
        "share": share,
        "seed": seed,
        "votes": stages["labels"]["accuracy"]["votes"]["value"],
        "sft": results["sft"]["held_out"]["accuracy"],
        "pairs": check["pairwise"]["value"],
        "auroc": check["auroc"]["value"],
        "rl": results["reward_model_rl"]["held_out"]["accuracy"],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each share: mean over seeds, and every seed's."""
    lines = ["| votes made wrong | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for share in sorted({row["share"] for row in rows}):
        found = [row for row in rows if row["share"] == share]
        cells = []
        for key in COLUMNS:
            values = [100 * row[key] for row in found]
            cells.append(f"{statistics.fmean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})")
        lines.append(f"| {share:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(target: str, seeds: str = "3", *shares: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["share"], row["seed"]) for row in rows}
    for seed in range(int(seeds)):
        for share in (float(share) for share in shares or ("0", "0.1", "0.2", "0.3")):
            if (share, seed) not in done:
                rows.append(one(folder, share, seed))
                with results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    (folder / "table.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
