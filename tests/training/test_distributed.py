"""Who of several processes does what: shares, micro-batches, random numbers; two of them learn as one does. More
processes, strategies and algorithms: tests/slow."""

from __future__ import annotations

import socket
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from tests.models.tiny import UNEQUAL, policy, prompts, tokenizer
from tests.slow.together import NARROW, learner, steps, weights
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.schema import Rollout
from yonder.training.distributed import ALONE, CPU, World
from yonder.training.meeting import begun

LENGTHS = [5, 9, 3, 3, 12, 7, 4]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_every_row_is_somebodys_once(size: int) -> None:
    for sharded in (False, True):
        worlds = [World(rank, size, sharded) for rank in range(size)]
        work = [world.micro_batches(LENGTHS, 12) for world in worlds]
        rows = [row for mine in work for index, counts in mine if counts for row in index]
        assert sorted(rows) == list(range(len(LENGTHS)))
        for index, _ in chain(*work):
            assert len(index) == 1 or len(index) * max(LENGTHS[row] for row in index) <= 12
        assert sorted(chain(*(world.share(7) for world in worlds))) == list(range(7))
        if sharded and size > 1:
            assert len({len(mine) for mine in work}) == 1  # as many forwards in each


def test_a_world_of_one_has_the_micro_batches_of_before() -> None:
    # 3 * 3 = 9, with 4: 3 * 4 = 12; 5 alone, as 2 * 7 = 14; then 7, 9 and 12 alone
    assert ALONE.micro_batches(LENGTHS, 12) == [([2, 3, 6], True), ([0], True), ([5], True), ([1], True), ([4], True)]


def sample(by_prompt: bool, batch: int, parts: list[slice]) -> list[Rollout]:
    engine = PolicySampler(policy("llama"), PromptEncoder(tokenizer(), 64), 12, batch, by_prompt=by_prompt)
    asked = prompts(*UNEQUAL, "And now?")
    return [r for part in parts for r in engine.sample(asked[part], 3, 1.0, 5, first=part.indices(4)[0])]


@pytest.mark.parametrize("parts", [[slice(0, 2), slice(2, 4)], [slice(0, 1), slice(1, 4)]])
@pytest.mark.parametrize("batch", [3, 256])
def test_with_numbers_of_its_own_a_prompt_is_answered_the_same_in_any_company(parts: list[slice], batch: int) -> None:
    whole = sample(True, 256, [slice(0, 4)])
    apart = sample(True, batch, parts)
    assert [r.completion.token_ids for r in apart] == [r.completion.token_ids for r in whole]
    assert [r.group for r in apart] == [r.group for r in whole] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len({r.completion.token_ids for r in whole}) == 12  # nor do two prompts or samples share numbers


def test_with_numbers_of_the_batch_it_is_not() -> None:
    whole, apart = sample(False, 256, [slice(0, 4)]), sample(False, 256, [slice(0, 2), slice(2, 4)])
    assert [r.completion.token_ids for r in apart] != [r.completion.token_ids for r in whole]


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with begun("auto", False, 1.0, CPU) as world:
        assert world is ALONE
    rows = [1, 2]
    assert ALONE.gather(rows) is rows
    assert ALONE.agreed(rows) is rows


def learn(world: World, folder: Path) -> None:
    """Two updates of PPO with three terms, in micro-batches; process 0 writes what it found."""
    made = learner(("ppo", NARROW, None), world, folder)
    begin = weights(made.policy, world)
    metrics = steps(made, 0, 1)
    if world.first:
        torch.save({"begin": begin, "metrics": metrics, "end": weights(made.policy, world)}, folder / "found.pt")


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """A process of two, forked."""
    torch.set_num_threads(1)  # threads do not survive a fork
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}.items():
            patch.setenv(name, str(value))
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        with begun("ddp", False, 60.0, CPU) as world:
            assert world.size == 2
            learn(world, folder)


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    two = [get_context("fork").Process(target=one_of_two, args=(rank, port, tmp_path / "two")) for rank in range(2)]
    for process in two:
        process.start()
    learn(ALONE, tmp_path)
    for process in two:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in two] == [0, 0]
    ours, theirs = torch.load(tmp_path / "found.pt"), torch.load(tmp_path / "two/found.pt")
    assert theirs["metrics"][0] == pytest.approx(ours["metrics"][0], rel=5e-5, abs=1e-5)
    assert all(torch.equal(theirs["begin"][name], tensor) for name, tensor in ours["begin"].items())
    moved = max(float((tensor - ours["begin"][name]).abs().max()) for name, tensor in ours["end"].items())
    apart = max(float((tensor - theirs["end"][name]).abs().max()) for name, tensor in ours["end"].items())
    assert apart < 5e-5 < 1e-3 < moved
