"""Synthetic AlpacaEval: outputs and preferences of made-up models; nothing of the benchmark itself."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 805


def write_gamed(path: Path) -> None:
    """A `df_gamed.csv` of this shape: a concise and a verbose version of the baseline, 805 rows each."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 1, ROWS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
        )
        for name, shift in (("concise", -1.5), ("verbose", 1.5)):
            lengths = rng.normal(shift, 0.7, ROWS)
            liked = np.clip(0.5 + 0.2 * np.tanh(lengths) + rng.normal(0, 0.1, ROWS), 0, 1)
            for i in range(ROWS):
                writer.writerow([liked[i], i, lengths[i], difficulty[i], False, name])


def annotation_rows(seed: int) -> list[dict[str, Any]]:
    """Annotations of the package's form, with outputs of many lengths; two were not judged."""
    rng = np.random.default_rng(seed)
    shift = float(rng.normal(0, 1))
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        theirs, ours = (int(n) for n in rng.integers(10, 900, 2))
        gap = shift + 0.002 * (ours - theirs) + rng.normal(0, 1)
        preference = None if i in (5, 400) else 1 + 1 / (1 + float(np.exp(-gap)))
        rows.append({
            "instruction": f"Do {i}.", "output_1": "x" * theirs, "output_2": "y" * ours, "generator_1": "theirs",
            "generator_2": "ours", "dataset": "made", "annotator": "judge", "preference": preference, "bias": 0.1,
            "reason": "" if preference else "the judge server is down",
        })  # fmt: skip
    return rows


def write_outputs(path: Path, count: int, generator: str = "theirs") -> None:
    """A `model_outputs.json`."""
    rows = [
        {"dataset": "made", "instruction": f"Say {i}.", "output": f"I say {i}. " * (i % 3 + 1), "generator": generator}
        for i in range(count)
    ]
    path.write_text(json.dumps(rows))
