"""Rollouts by a real vLLM on the CPU: renewed weights, the trainer's log-probs, learning, a killed server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slow import servers
from tests.slow.demo_student import AGREE, DEMO, PROMPTS, TEMPERATURE, demo_policy, gap, move
from yonder.data.responses import read_lines
from yonder.engines.checking import Rules
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.engines.weights import Outbox
from yonder.errors import ModelError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.reporting.records import read_lines as read_log
from yonder.schema import Rollout
from yonder.transport import Limits, Transport

pytestmark = pytest.mark.slow
TOGETHER = """
threads: 1
policy: {model: FOLDER, max_completion_tokens: 24}
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 64, seed: 1}}
stages:
  - name: distill
    kind: distill
    algorithm: grpo
    group_size: 4
    epochs: 1
    steps: 4
    save_every: 1
    log_rollouts: 20
    prompts: {labeled: 5}
    terms: [{reward: "tests.slow.rewards:even", data: labeled, weight: 1.0}]
    optimizer: {lr: 1.0e-3, schedule: constant}
    rollouts: {engine: vllm, urls: [URL], seeds: true, deadline_s: 5}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's student with other weights than the tests'."""
    path, policy = tmp_path_factory.mktemp("policy"), demo_policy(0)
    policy.model.save_pretrained(path)
    policy.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def vllm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    server = servers.vllm_policy(folder, tmp_path_factory.mktemp("vllm") / "log")
    server.start()
    yield server
    server.kill()


def served(policy: Policy, url: str, folder: Path, seeds: bool = False) -> ServedSampler:
    limits = Limits(concurrency=8, timeout_s=200, deadline_s=240)
    server = VLLMServer(Transport((url,), limits, None, "vLLM server"), "policy")
    rules = Rules(300, 24, 512, TEMPERATURE, 0.1, seeds=seeds)
    return ServedSampler([server], policy, PromptEncoder(policy.tokenizer, 300), rules, folder)


def test_log_probs_agree_after_every_change_of_the_weights(vllm: servers.Server, tmp_path: Path) -> None:
    policy = demo_policy(1)
    sampler = served(policy, vllm.url, tmp_path)
    for step in range(4):
        sampler.refresh(0)
        told: list[Rollout] = []
        found = sampler.sample(PROMPTS, 8, TEMPERATURE, 0, finished=told.extend)
        assert sorted(told, key=repr) == sorted(found, key=repr)
        assert [rollout.group for rollout in found] == [i for i in range(4) for _ in range(8)]
        assert len({rollout.completion.token_ids for rollout in found}) == 32
        assert gap(policy, found) < AGREE
        move(policy, 0.01, step)  # as much as some optimizer steps
        assert gap(policy, found) > 100 * AGREE


def test_greedy_completions_and_their_ends_are_those_of_this_process(vllm: servers.Server, tmp_path: Path) -> None:
    policy = demo_policy(2)
    sampler = served(policy, vllm.url, tmp_path)
    sampler.refresh(0)
    theirs = sampler.sample(PROMPTS, 1, None, 0)
    ends = (theirs[0].completion.token_ids[3], theirs[1].completion.token_ids[1])
    own = PolicySampler(policy, sampler.encoder, 24, 64)
    assert [r.completion.token_ids for r in theirs] == [r.completion.token_ids for r in own.sample(PROMPTS, 1, None, 0)]
    sampler.encoder.end_ids = ends
    theirs, ours = sampler.sample(PROMPTS, 1, None, 0), own.sample(PROMPTS, 1, None, 0)
    assert [r.completion.token_ids for r in theirs] == [r.completion.token_ids for r in ours]
    assert [r.completion.text for r in theirs] == [r.completion.text for r in ours]
    assert [r.completion.finished for r in theirs] == [r.completion.finished for r in ours]
    assert theirs[0].completion.token_ids[-1] in ends


def test_seeds_repeat_a_batch(vllm: servers.Server, tmp_path: Path) -> None:
    policy = demo_policy(3)
    sampler = served(policy, vllm.url, tmp_path, seeds=True)
    sampler.refresh(0)
    first, second, other = (sampler.sample(PROMPTS, 8, TEMPERATURE, seed) for seed in (5, 5, 6))
    assert [r.completion.token_ids for r in first] == [r.completion.token_ids for r in second]
    assert [r.completion.token_ids for r in first] != [r.completion.token_ids for r in other]


def test_a_tied_head_must_be_sent_beside_the_embedding(
    vllm: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU vLLM packs the head, and renews the packed copy only for a tensor of its own; that is found out."""
    write = Outbox.write

    def without_head(self: Outbox, *given: Any, **named: Any) -> Path:
        folder = write(self, *given, **named)
        (folder / "tied_head.safetensors").unlink()
        return folder

    monkeypatch.setattr(Outbox, "write", without_head)
    with pytest.raises(ModelError, match="does it renew all of its weights"):
        served(demo_policy(0), vllm.url, tmp_path).refresh(0)


def test_the_demo_learns_through_a_server_that_is_killed_in_between(vllm: servers.Server, tmp_path: Path) -> None:
    tree: dict[str, Any] = yaml.safe_load(DEMO)
    tree["stages"][1]["rollouts"]["urls"] = [vllm.url]
    tree["output_dir"] = str(tmp_path / "run")
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(tree))
    metrics = tmp_path / "run/stages/distill/metrics.jsonl"

    def kill_once() -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 5):
            time.sleep(0.05)
        vllm.kill()
        vllm.start(wait=False)

    killer = threading.Thread(target=kill_once)
    killer.start()
    run(load_recipe(tmp_path / "demo.yaml"))
    killer.join()
    rows = read_lines(metrics)
    assert len(rows) == 16
    assert max(row["policy/rollout_gap_nats"] for row in rows) < AGREE
    rewards = [row["terms/correct@labeled/reward_mean"] for row in rows]
    print("rewards", [round(reward, 3) for reward in rewards])
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.1


def yonder(recipe: Path, output: Path, processes: int, *settings: str) -> subprocess.Popen[str]:
    """`yonder run`, begun."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d"]
    launch = [*launch, "--rdzv-endpoint", "127.0.0.1:0"] if processes > 1 else []
    command = [sys.executable, *launch, "-m", "yonder", "run", str(recipe), f"output_dir={output}", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def together(folder: Path, url: str, output: Path) -> Path:
    """A recipe for several processes."""
    path = output / "together.yaml"
    path.write_text(TOGETHER.replace("FOLDER", str(folder)).replace("URL", url))
    return path


def test_two_processes_share_a_server(folder: Path, vllm: servers.Server, tmp_path: Path) -> None:
    recipe = together(folder, vllm.url, tmp_path)
    first: list[list[str]] = []
    adapter, divided = "policy.lora={rank: 4}", "parallel.strategy=fsdp2"
    runs: dict[str, tuple[int, list[str]]] = {"one": (1, []), "ddp": (2, []), "fsdp2": (2, [divided])}
    runs |= {"adapter": (2, [adapter]), "divided adapter": (2, [adapter, divided])}
    for name, (processes, settings) in runs.items():
        running = yonder(recipe, tmp_path / name, processes, *settings)
        said = running.communicate(timeout=280)[1]
        assert running.returncode == 0, said[-3000:]
        stage = tmp_path / name / "stages/distill"
        rows = read_lines(stage / "metrics.jsonl")
        assert len(rows) == 4
        assert max(row["policy/rollout_gap_nats"] for row in rows) < AGREE, name
        assert min(row["grad_norm"] for row in rows) > 0
        logged = [row for path in sorted(stage.glob("rollouts-*")) for _, row in read_log(path, [])]
        first.append([row["completion"] for row in logged if row["step"] == 1])
    assert len(first[0]) == 20
    assert all(found == first[0] for found in first)


def test_two_processes_end_where_their_server_does_and_go_on(
    folder: Path, vllm: servers.Server, tmp_path: Path
) -> None:
    """With the next batch written meanwhile."""
    recipe = together(folder, vllm.url, tmp_path)
    settings = ("distill.one_step_off=true", "distill.importance_cap=2.0", "distill.steps=8")
    metrics = tmp_path / "run/stages/distill/metrics.jsonl"
    running = yonder(recipe, tmp_path / "run", 2, *settings)
    while running.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 2):
        time.sleep(0.02)
    vllm.kill()
    said = running.communicate(timeout=200)[1]
    vllm.start()
    assert running.returncode != 0
    assert "yonder: distill: no rollouts from" in said
    assert "the same command continues" in said
    assert "lost the others" not in said
    done = len(read_lines(metrics))
    assert 2 <= done < 8
    running = yonder(recipe, tmp_path / "run", 2, *settings)
    said = running.communicate(timeout=280)[1]
    assert running.returncode == 0, said[-3000:]
    rows = read_lines(metrics)
    assert [row["step"] for row in rows] == list(range(1, 9))
    fresh = [row for row in rows if row["rollouts/staleness_steps"] == 0]
    stale = [row for row in rows if row["rollouts/staleness_steps"] == 1]
    assert fresh[0] == rows[0]
    assert len(stale) in (
        6,
        7,
    )  # where the server failed at rollouts begun ahead they are written anew, by newer weights
    assert len(fresh) + len(stale) == 8
    assert max(row["policy/rollout_gap_nats"] for row in fresh) < AGREE
    assert min(row["policy/rollout_gap_nats"] for row in stale) > 1e-3
