"""Where the time of one step goes: runs some steps of a shipped recipe and prints the median of every part.

python benchmarks/step.py [RECIPE] [STAGE] [STEPS]        # default: demo distill 12
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from yonder import load_recipe, run


def main(recipe: str = "demo", stage: str = "distill", steps: str = "12") -> None:
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"output_dir={folder}/run", f"{stage}.steps={steps}", f"{stage}.evaluate.every=0"]
        run(load_recipe(recipe, overrides), [stage])
        lines = (Path(folder) / "run/stages" / stage / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines][2:]  # the first steps pay for warming up
    parts = dict.fromkeys(name for row in rows for name in row if name.startswith("time/"))
    medians = {name: statistics.median(row.get(name, 0.0) for row in rows) for name in parts}
    total = sum(medians.values())
    print(f"{recipe} {stage}: medians of {len(rows)} steps, {total:.3f} s a step")
    for name, seconds in medians.items():
        print(f"  {name:<18} {seconds:8.3f} s  {seconds / total:6.1%}")
    print(json.dumps({"recipe": recipe, "stage": stage, "steps": len(rows), "total_s": total} | medians))


if __name__ == "__main__":
    main(*sys.argv[1:])
