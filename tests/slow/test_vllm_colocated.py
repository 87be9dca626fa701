"""Rollouts by a real vLLM inside the training process, on the CPU, in vLLM's own environment: renewed weights, the
trainer's log-probs, learning, an exact resume, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slow import servers
from tests.slow.demo_student import AGREE, DEMO
from yonder.data.responses import read_lines

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PATIENCE_S = 1500
MERGED = 5e-5  # nats a token: an adapter's product is rounded once more
COLOCATED = {"engine": "vllm", "colocate": {"cache_gib": 0.25, "max_sequences": 384, "eager": True}}


def command(module: str, *arguments: str, processes: int = 1) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d"]
    launch = [*launch, "--rdzv-endpoint", "127.0.0.1:0"] if processes > 1 else []
    return [servers.python_of("vllm-colocated"), *launch, "-m", module, *arguments]


def begin(command: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it printed."""
    printed, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, said[-3000:]
    return printed


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    printed = ended(begin(command("tests.slow.colocated_trial"), tmp_path_factory.mktemp("trial")))
    return json.loads(printed.splitlines()[-1])


def test_log_probs_agree_after_every_change_of_the_weights(trial: dict[str, Any]) -> None:
    print(trial)
    assert len(trial["gaps"]) == 4
    assert max(trial["gaps"]) < AGREE
    assert min(trial["stale"]) > 100 * AGREE
    assert trial["different"] == 32
    assert trial["told"]
    assert max(trial["adapter"]) < MERGED


def test_a_seed_repeats_a_batch_and_the_process_is_left_alone(trial: dict[str, Any]) -> None:
    assert trial["same"] and trial["other"]
    assert trial["process"]


def test_greedy_completions_and_their_ends_are_those_of_our_own_sampler(trial: dict[str, Any]) -> None:
    assert trial["greedy"] and trial["cut"]
    assert sorted(set(trial["ends"])) == [False, True]


def test_faults_of_the_engine_are_one_sentence(trial: dict[str, Any]) -> None:
    assert "this vLLM does not renew all weights" in trial["kept head"]
    assert trial["too large"].startswith("vLLM does not start in this process (ValueError: Available memory")
    assert "\n" not in trial["too large"]


def demo(folder: Path, name: str, short: bool = False) -> list[str]:
    """The command that runs the demo; `short`: a few steps of a few prompts."""
    tree: dict[str, Any] = yaml.safe_load(DEMO)
    tree["stages"][1] |= {"rollouts": COLOCATED}
    if short:
        tree["stages"][0] |= {"epochs": 1}
        tree["stages"][1] |= {"steps": 6, "prompts": {"labeled": 6}, "group_size": 4, "save_every": 1}
    tree["output_dir"] = str(folder / name)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return command("yonder", "run", str(path))


def test_the_demo_learns(tmp_path: Path) -> None:
    ended(begin(demo(tmp_path, "run"), tmp_path))
    rows = read_lines(tmp_path / "run/stages/distill/metrics.jsonl")
    assert len(rows) == 16
    assert max(row["policy/rollout_gap_nats"] for row in rows) < AGREE
    rewards = [row["terms/correct@labeled/reward_mean"] for row in rows]
    print("rewards", [round(reward, 3) for reward in rewards], max(row["policy/rollout_gap_nats"] for row in rows))
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.1


def test_a_run_that_is_killed_goes_on_exactly(tmp_path: Path) -> None:
    ended(begin(demo(tmp_path, "whole", short=True), tmp_path))
    whole = read_lines(tmp_path / "whole/stages/distill/metrics.jsonl")
    metrics = tmp_path / "halved/stages/distill/metrics.jsonl"
    running = begin(demo(tmp_path, "halved", short=True), tmp_path)
    while running.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 3):
        time.sleep(0.05)
    running.kill()
    running.communicate(timeout=60)
    assert 3 <= len(read_lines(metrics)) < 6
    ended(begin(demo(tmp_path, "halved", short=True), tmp_path))
    for one, other in zip(whole, read_lines(metrics), strict=True):
        for name in ("grad_norm", "policy/rollout_gap_nats", "terms/correct@labeled/reward_mean"):
            assert one[name] == other[name], (one["step"], name)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_have_an_engine_each(strategy: str, tmp_path: Path) -> None:
    ended(begin(command("tests.slow.colocated_together", strategy, str(tmp_path), processes=2), tmp_path))
    first, second = (json.loads((tmp_path / f"{strategy}-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["groups"] == [[i for i in range(5) for _ in range(4)]] * 2
    assert max(first["gaps"]) < AGREE
    assert len({tuple(ids) for ids in first["rollouts"][1]}) == 20
