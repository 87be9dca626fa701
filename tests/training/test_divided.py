"""A checkpoint in parts, of one process whose weights are divided over itself alone. Several: tests/slow."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tools import tiny_policy
from yonder.errors import StorageError
from yonder.models.policy import Policy
from yonder.stages.plans import shared_width
from yonder.training.checkpoint import CheckpointStore, is_whole, load_policy_weights, load_state
from yonder.training.distributed import ALONE, CPU, Saved, World
from yonder.training.divided import gathered, put_together, shard, taken_apart, write_parts
from yonder.training.meeting import begun
from yonder.training.optimizer import build_optimizer, load_optimizer


def trained(policy: Policy) -> torch.optim.Optimizer:
    """An optimizer with a state, and the policy a step further."""
    optimizer = build_optimizer(policy, 1e-3, 1e-2, 0.0)
    ids = torch.arange(12).view(2, 6)
    policy(ids, torch.ones_like(ids), torch.tensor([2, 2]), torch.ones(2, 5), 1.0).logprobs.sum().backward()
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    optimizer.step()
    return optimizer


def state_of(policy: Policy, optimizer: torch.optim.Optimizer, world: World) -> dict[str, Any]:
    found = {"weights": dict(policy.named_parameters()), "state": optimizer.state_dict()["state"]}
    return dict(flat(gathered(found, world)))


def flat(value: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        return [(name, value.detach().clone())]
    return [pair for key, inner in value.items() for pair in flat(inner, f"{name}.{key}")]


def test_parts_are_written_verified_and_read_divided_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with begun("fsdp2", False, 20.0, CPU) as world:
        policy = tiny_policy(2)
        shard(world, policy)
        optimizer = trained(policy)
        store = CheckpointStore(tmp_path, 3, world=world)
        for step in (1, 2):
            store.save(step, policy, {"optimizer": optimizer.state_dict(), "list": [step]}, None)
        before = state_of(policy, optimizer, world)
        again = tiny_policy(2, seed=7)
        shard(world, again)
        other = build_optimizer(again, 1e-3, 1e-2, 0.0)
        load_optimizer(other, store.restore(store.path(2), again)["optimizer"])
        assert same(state_of(again, other, world), before)
    alone = tiny_policy(2, seed=8)
    plain = build_optimizer(alone, 1e-3, 1e-2, 0.0)
    state = load_state(store.path(2))
    load_policy_weights(store.path(2), alone)
    load_optimizer(plain, state["optimizer"])
    assert same(state_of(alone, plain, World()), before)
    assert state["list"] == [2]
    assert store.latest() == store.path(2)
    (part,) = (store.path(2) / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert not is_whole(store.path(2))
    assert store.latest() == store.path(1)
    assert "damaged; using the one before" in caplog.text
    assert not list(tmp_path.glob(".*"))


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    assert ours.keys() == theirs.keys()
    assert any("exp_avg" in name for name in ours)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_state_without_divided_tensors_is_left_as_it_is() -> None:
    state = {"a": [1, {"b": torch.ones(2)}], 3: None, "part of": "x", "c": ()}
    tensors: dict[str, torch.Tensor] = {}
    found = taken_apart(state, tensors)
    assert tensors == {}
    assert found == state
    assert put_together(found, Path("x")) == state
    assert put_together([{"part of": "a.b"}], Path("x")) == [Saved(Path("x"), "a.b")]


def test_a_disk_that_takes_no_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"could not be made \(Read-only file system\); free disk space") as caught:
        write_parts(ALONE, tmp_path / "parts", {})
    assert "\n" not in str(caught.value)


def test_divided_weights_share_prompts_as_whole_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with begun("fsdp2", False, 20.0, CPU) as world:
        policy, reference = tiny_policy(), tiny_policy(seed=3)
        for model in (policy, reference):
            shard(world, model)
        assert shared_width(policy, reference, [], world) == policy.trunk.width
        ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9], [5, 6, 7, 8]])
        mask, starts = torch.ones_like(ids), torch.tensor([3, 3, 3])
        apart, together = (policy(ids, mask, starts, torch.ones(3, 1), 1.0, (), False, sizes) for sizes in (None, [3]))
        assert torch.allclose(apart.logprobs, together.logprobs, atol=1e-6)
