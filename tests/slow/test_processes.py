"""`yonder run` under torchrun: as in one process, and what an error in one process does."""

import json
import os
import re
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
policy: {model: "yonder:judge", max_completion_tokens: 16}
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 64, seed: 1}, development: 8}
  unlabeled: {source: word-problems, options: {count: 64, seed: 2}, labeled: false}
rewards:
  correct: {kind: verifiable}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 2, optimizer: {lr: 1.0e-3}}
  - name: distill
    kind: distill
    policy: "stage:warmup"
    steps: 6
    save_every: 2
    prompts: {labeled: 4, unlabeled: 3}
    terms:
      - {reward: correct, data: labeled, weight: 0.5}
      - {reward: "REWARD", data: unlabeled, weight: 0.5}
    optimizer: {lr: 1.0e-4}
    evaluate: {data: labeled.development, every: 4}
"""


def yonder(folder: Path, name: str, processes: int, *settings: str, reward: str = "length") -> tuple[int, str]:
    """Exit code, and what was said."""
    recipe = folder / f"{reward}.yaml"
    recipe.write_text(RECIPE.replace("REWARD", f"tests.slow.rewards:{reward}"))
    launch = torchrun(processes) if processes > 1 else []
    command = [sys.executable, *launch, "-m", "yonder", "run", str(recipe), f"output_dir={folder / name}", *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment(folder))
    return done.returncode, done.stderr


def torchrun(processes: int) -> list[str]:
    """What starts so many, and starts them again twice."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", "2"]
    return [*launch, "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]


def environment(folder: Path) -> dict[str, str]:
    """With the file in which process 0 leaves its exit code."""
    return os.environ | {"OMP_NUM_THREADS": "1", "YONDER_CODE_FILE": str(folder / "code")}


def apart(one: Path, two: Path, stage: str) -> float:
    """The largest difference of any weight that a stage hands on."""
    found = []
    for output in (one, two):
        folder = output / "stages" / stage
        chosen = json.loads((folder / "stage.json").read_text())["result"]["checkpoint"]
        found.append(load_file(folder / chosen / "model.safetensors"))
    return max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0])


@pytest.mark.parametrize("policy", [[], ["policy.lora={rank: 4}"]], ids=["weights", "adapter"])
def test_two_processes_end_as_one(policy: list[str], tmp_path: Path) -> None:
    assert yonder(tmp_path, "one", 1, "parallel.seeds=prompt", *policy)[0] == 0
    for strategy in ("ddp", "fsdp2"):
        code, said = yonder(tmp_path, strategy, 2, f"parallel.strategy={strategy}", *policy)
        assert code == 0, said[-3000:]
        assert said.count("distill: 6/6") == 1  # one process talks
        assert apart(tmp_path / "one", tmp_path / strategy, "warmup") < 5e-5
        assert apart(tmp_path / "one", tmp_path / strategy, "distill") < 1e-4
        rows = [(tmp_path / name / "stages/distill/metrics.jsonl").read_text() for name in ("one", strategy)]
        ours, theirs = ([json.loads(line) for line in text.splitlines()] for text in rows)
        assert [row["loss"] for row in theirs] == pytest.approx([row["loss"] for row in ours], rel=1e-4, abs=1e-5)
        assert theirs[1]["development/accuracy"] == ours[1]["development/accuracy"]


def test_an_error_in_one_process_ends_all_with_its_sentence(tmp_path: Path) -> None:
    code, said = yonder(tmp_path, "failed", 2, reward="fails_in_one")
    assert code != 0
    assert "yonder: reward tests.slow.rewards:fails_in_one raised ValueError: not here" in said
    assert "yonder: process 0 lost the others" in said
    assert not list((tmp_path / "failed").rglob("*.unfinished"))


@pytest.mark.parametrize("to", ["a process", "torchrun"])
def test_a_stop_ends_all_and_is_not_started_again(to: str, tmp_path: Path) -> None:
    settings = ("distill.steps=2000", "distill.save_every=1000", "distill.evaluate.every=0")
    recipe = tmp_path / "length.yaml"
    recipe.write_text(RECIPE.replace("REWARD", "tests.slow.rewards:length"))
    command = [sys.executable, *torchrun(2), "-m", "yonder", "run", str(recipe), f"output_dir={tmp_path / 'stopped'}"]
    job = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True, env=environment(tmp_path))
    metrics, deadline = tmp_path / "stopped/stages/distill/metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.1)
    children = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
    os.kill(children[-1] if to == "a process" else job.pid, signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    found = re.findall(
        r"^yonder: distill: saved at step (\d+); stopped as asked, .* \(code 75; .*\)$", said, re.MULTILINE
    )
    assert len(found) == 1, said
    assert job.returncode == (0 if to == "a process" else 1)
    assert (tmp_path / "code").read_text() == "75\n"
    assert "resumed" not in said
    assert not (tmp_path / "stopped/summary.json").exists()
    code, said = yonder(tmp_path, "stopped", 2, *settings, f"distill.steps={int(found[0]) + 2}", "--allow-changes")
    assert code == 0, said[-3000:]
    assert f"distill: resumed at step {found[0]}" in said
    assert (tmp_path / "code").read_text() == "0\n"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("polcy.dtype=float32", "unknown key `polcy`"),
        ("data.labeled={source: nowhere.jsonl, development: 8}", "nowhere.jsonl"),
    ],
    ids=["recipe", "data"],
)
def test_a_mistake_of_all_is_said_once_and_not_started_again(setting: str, sentence: str, tmp_path: Path) -> None:
    code, said = yonder(tmp_path, "wrong", 2, setting)
    lines = [line for line in said.splitlines() if line.startswith("yonder: ")]
    assert len(lines) == 1, said
    assert sentence in lines[0]
    assert lines[0].endswith("(code 2; torchrun gets 0, so that it does not start all again)")
    assert "Traceback" not in said
    assert (code, (tmp_path / "code").read_text()) == (0, "2\n")
