"""A synthetic sweep's folder, as `yonder sweep` leaves it: rows of different weights, some seeds each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.reporting.fixture import HOSTILE, SECRET, build_run, write_json

NAMES = ("verifier only", "three to one", "half and half", "one to three", "judge only")


def build_sweep(path: Path, rows: int = 5, seeds: int = 3, steps: int = 120) -> Path:
    """Write the runs and `sweep.json`; each row is 4 points better than the one before."""
    table_rows: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for at, name in enumerate(NAMES[:rows]):
        runs = [run(path, at, seed, steps) for seed in range(seeds)]
        table_rows.append({"name": name, "overrides": [f"distill.terms.0.weight={1 - at / 4}"], "runs": runs})
        values = [round(0.30 + 0.04 * at + 0.01 * seed, 4) for seed in range(seeds)]
        cells.append(cell(name, "warm-up", [0.2 + 0.01 * seed for seed in range(seeds)], None))
        gain = {"points": 4.0 * at, "low": 4.0 * at - 5, "high": 4.0 * at + 5, "p": 0.0004 if at > 1 else 0.11}
        cells.append(cell(name, "distill-judge", values, gain if at else None))
    told = {
        "format": 1,
        "title": "How much weight for the judge",
        "recipe": "demo",
        "notes": [f"Two cores {HOSTILE} {SECRET}"],
        "made": "2026-11-22T04:00:00+00:00",
        "rows": table_rows,
        "baseline": NAMES[0],
        "table": {"benchmarks": ["gsm8k"], "cells": cells},
    }
    write_json(path / "sweep.json", told)
    return path


def run(path: Path, row: int, seed: int, steps: int) -> dict[str, Any]:
    folder = f"runs/{row}-{seed}"
    build_run(path / folder, 10 * row + seed, steps)
    return {"seed": seed, "folder": folder, "status": "done", "error": None}


def cell(row: str, checkpoint: str, values: list[float], difference: dict[str, Any] | None) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return {
        "row": row,
        "benchmark": "gsm8k",
        "checkpoint": checkpoint,
        "values": values,
        "seeds": list(range(len(values))),
        "mean": mean,
        "std": 0.01,
        "low": mean - 0.02,
        "high": mean + 0.02,
        "n": 1319,
        "difference": difference,
    }
