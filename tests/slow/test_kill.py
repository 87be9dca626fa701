"""A run that is killed in the middle of a step and started again ends with the same weights as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

RECIPE = """
threads: 1
policy: {model: {family: llama, hidden_size: 32, layers: 1, heads: 2}, tokenizer: "yonder:tokenizer",
max_completion_tokens: 12}
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 64, seed: 1}}
  unlabeled: {source: word-problems, options: {count: 64, seed: 2}, labeled: false}
rewards:
  correct: {kind: verifiable}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 3, optimizer: {lr: 3.0e-3}}
  - name: distill
    kind: distill
    policy: "stage:warmup"
    algorithm: ALGORITHM
    group_size: GROUP
    steps: 60
    save_every: 10
    prompts: {labeled: 4, unlabeled: 4}
    terms:
      - {reward: correct, data: labeled, weight: 0.5}
      - {reward: "tests.slow.rewards:length", data: unlabeled, weight: 0.5}
    optimizer: {lr: 1.0e-3}
"""


def start(recipe: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "yonder", "run", str(recipe), f"output_dir={output}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def weights(output: Path) -> dict[str, object]:
    stage = json.loads((output / "stages/distill/stage.json").read_text())
    assert stage["status"] == "done"
    return load_file(output / "stages/distill" / stage["result"]["checkpoint"] / "model.safetensors")


@pytest.mark.parametrize(("algorithm", "group"), [("ppo", 1), ("grpo", 4)])
def test_killed_and_resumed_equals_unbroken(tmp_path: Path, algorithm: str, group: int) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ALGORITHM", algorithm).replace("GROUP", str(group)))
    whole = start(recipe, tmp_path / "whole")
    assert whole.wait(300) == 0, whole.stderr.read().decode()

    broken = start(recipe, tmp_path / "broken")
    metrics = tmp_path / "broken/stages/distill/metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not metrics.is_file() or len(metrics.read_text().splitlines()) < 13):
        time.sleep(0.02)
    os.kill(broken.pid, signal.SIGKILL)
    broken.wait()
    assert json.loads((tmp_path / "broken/stages/distill/stage.json").read_text())["status"] == "unfinished"

    resumed = start(recipe, tmp_path / "broken")
    _, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said.decode()
    assert b"warmup: unchanged, skipped" in said
    assert b"distill: resumed at step" in said
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    rows = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert rows == sorted(set(rows))
    assert rows[-1] == 60


def test_killed_at_random_moments_of_every_stage() -> None:
    """Fewer of the kills in the table of docs/resuming.md."""
    done = subprocess.run([sys.executable, "-m", "tests.slow.kills", "6", "7"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "After 6 of 6 kills" in done.stdout


def test_a_killed_process_of_two_is_started_again_by_torchrun() -> None:
    """Fewer of the kills in the table of docs/distributed.md: ddp in mid-PPO, fsdp2 in mid-GRPO."""
    done = subprocess.run([sys.executable, "-m", "tests.slow.distributed_kills", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs ended bit for bit" in done.stdout
    assert "2 went on from a trained step" in done.stdout
