"""A sweep that is killed -9 at random moments and started again ends as one that nobody touched."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.slow.kills import outcome

pytestmark = pytest.mark.slow

RECIPE = """
threads: 1
policy: {model: {family: llama, hidden_size: 32, layers: 1, heads: 2}, tokenizer: "yonder:tokenizer", device: cpu,
max_completion_tokens: 12}
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 48, seed: 1}}
  held: {source: word-problems, options: {count: 40, seed: 5, part: held-out}}
benchmarks: {held: {data: held}}
rewards: {correct: {kind: verifiable}}
sandbox: {workers: 1}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 15, optimizer: {lr: 3.0e-3}}
  - name: rl
    kind: distill
    policy: "stage:warmup"
    algorithm: grpo
    group_size: 4
    epochs: 1
    steps: 12
    save_every: 3
    prompts: {labeled: 8}
    terms: [{reward: correct, data: labeled, weight: 1.0}]
    optimizer: {lr: 1.0e-3}
  - {name: end, kind: evaluate, checkpoints: [rl], benchmarks: [held]}
"""
KILLS = 3


def command(recipe: Path, folder: Path, jobs: int) -> list[str]:
    options = ["--grid", "rl.kl.beta=0.0,0.1", "--seeds", "0,1", "--checkpoint", "rl", "--baseline", "rl.kl.beta=0.0"]
    return [sys.executable, "-m", "yonder", "sweep", str(recipe), *options, f"--jobs={jobs}", f"--output-dir={folder}"]


def finish(recipe: Path, folder: Path, jobs: int) -> dict[str, Any]:
    ended = subprocess.run(command(recipe, folder, jobs), capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "sweep.json").read_text())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_killed_at_random_moments_ends_bit_for_bit_the_same(tmp_path: Path, jobs: int) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    began = time.monotonic()
    whole = finish(recipe, tmp_path / "whole", 1)
    length, draw, killed = time.monotonic() - began, random.Random(jobs), 0
    for i in range(KILLS):
        process = subprocess.Popen(
            command(recipe, tmp_path / "killed", jobs), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(0.1, 0.5) * length)
        for child in children(process.pid) if i % 2 else []:  # else they go on, and are waited for
            os.kill(child, signal.SIGKILL)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    found = finish(recipe, tmp_path / "killed", jobs)
    assert killed >= 1
    assert found["table"] == whole["table"]
    for row in whole["rows"]:
        for run in row["runs"]:
            assert outcome(tmp_path / "killed" / run["folder"]) == outcome(tmp_path / "whole" / run["folder"])


def children(parent: int) -> list[int]:
    """Processes that a process has begun (Linux)."""
    found = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(number) for number in found.read_text().split()] if found.is_file() else []
