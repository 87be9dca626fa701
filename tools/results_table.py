"""Print the results of run directories as one Markdown table, a column a run: what docs/experiments.md is filled from.

python tools/results_table.py runs/demo-0 runs/demo-1 runs/demo-2
"""

import json
import sys
from pathlib import Path


def main(folders: list[str]) -> None:
    """Rows are stages and benchmarks, cells accuracy with its 95 % interval in per cent."""
    runs = [json.loads((Path(folder) / "summary.json").read_text()) for folder in folders]
    rows = dict.fromkeys((stage, name) for run in runs for stage, cells in run["results"].items() for name in cells)
    print("| stage | benchmark | " + " | ".join(f"seed {run['seed']}" for run in runs) + " |")
    print("|---" * (2 + len(runs)) + "|")
    for stage, name in rows:
        cells = [run["results"].get(stage, {}).get(name) for run in runs]
        shown = [f"{c['accuracy']:.1%} ({c['low']:.1%} to {c['high']:.1%})" if c else "" for c in cells]
        print(f"| {stage} | {name} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
