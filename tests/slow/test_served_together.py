"""Several processes sample from one server: each its share, from weights that process 0 sent; all fail alike."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.like_vllm import serving
from tests.slow.served_together import PROMPTS, move, policy_of
from yonder.training.distributed import ALONE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_shares_of_one_server_are_whole_and_a_server_that_is_gone_is_one_sentence_in_all(
    strategy: str, tmp_path: Path
) -> None:
    policy = policy_of(ALONE)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    with serving(policy) as server:
        server.restart_at = {9}  # in the first batch, whose four probes and four shifted ones came before
        command = [sys.executable, *launch, "--rdzv-endpoint", "127.0.0.1:0", "-m", "tests.slow.served_together"]
        with subprocess.Popen([*command, strategy, server.url, str(tmp_path)]) as running:
            while running.poll() is None and not (tmp_path / "ready").exists():
                time.sleep(0.05)
            server.down = True
            (tmp_path / "down").touch()
            assert running.wait(120) == 0
    found: list[dict[str, Any]] = [torch.load(tmp_path / f"found.{i}.pt", weights_only=False) for i in range(2)]
    assert found[0]["rollouts"] == found[1]["rollouts"]
    assert found[0]["errors"] == found[1]["errors"]
    too_long, no_rollouts, no_weights = found[0]["errors"]
    assert "tokens" in too_long
    assert "no rollouts from" in no_rollouts
    assert "no rollouts from" in no_weights
    assert [f["sent"] for f in found] == [5, 0]  # with shifted tokens, and four times as they are: by one process
    for step, rollouts in enumerate(found[0]["rollouts"]):
        if step:
            move(policy)
        assert [r.prompt.id for r in rollouts] == [p.id for p in PROMPTS for _ in range(2)]
        assert [r.group for r in rollouts] == [i for i in range(5) for _ in range(2)]
        for rollout in rollouts:
            ids, made = rollout.prompt_ids, rollout.completion
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([[*ids, *made.token_ids]])).logits[0, len(ids) - 1 : -1]
            ours = logits.log_softmax(-1).gather(1, torch.tensor([made.token_ids]).T)[:, 0]
            theirs = torch.tensor(made.logprobs)  # of the merged adapter: rounding differs by some 2e-5
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    sampled = [body for path, body in server.asked if path == "/v1/completions" and body.get("n") == 2]
    seeds = [body["seed"] for body in sampled]
    assert set(seeds) == {7, 8, 9, 10, 11}  # of the place among all prompts, in whichever process
    assert len(seeds) > 15  # some were asked again, when the server had lost the weights
    versions = [body["new_version"] for path, body in server.asked if path == "/update_weight_version"]
    assert len(versions) == len(set(versions)) + 1  # and had got them again, once
