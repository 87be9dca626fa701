"""Both algorithms learn a trivial task, twice the same, and go on exactly after an interruption."""

import json
from pathlib import Path

import pytest
import torch

from tests.training.tools import tiny_distiller
from yonder.models.lora import Lora

ADAPTER = Lora(rank=8, alpha=32)


def weights(distiller) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in distiller.learner.policy.state_dict().items()}


def rewards(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["terms/word@s0/reward_mean"] for row in rows]


@pytest.mark.parametrize(
    ("algorithm", "steps", "lora"),
    [("grpo", 80, None), ("ppo", 160, None), ("grpo", 100, ADAPTER), ("ppo", 200, ADAPTER)],
)
def test_learns_the_trivial_task(tmp_path: Path, algorithm: str, steps: int, lora: Lora | None) -> None:
    distiller = tiny_distiller(tmp_path, algorithm, steps, save_every=steps, lora=lora)
    frozen = {n: p.clone() for n, p in distiller.learner.policy.named_parameters() if not p.requires_grad}
    distiller.run()
    assert bool(frozen) == (lora is not None)
    assert all(torch.equal(p, frozen[n]) for n, p in distiller.learner.policy.named_parameters() if n in frozen)
    found = rewards(tmp_path)
    assert found[0] < 0.2
    assert sum(found[-5:]) / 5 > (0.95 if lora is None else 0.8)  # an adapter of one narrow layer


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_one_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path, algorithm: str) -> None:
    runs = [tiny_distiller(tmp_path / str(i), algorithm, 12, terms=2) for i in range(2)]
    for run in runs:
        run.run()
    first, second = weights(runs[0]), weights(runs[1])
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = tiny_distiller(tmp_path / "other", algorithm, 12, seed=1, terms=2)
    other.run()
    third = weights(other)
    assert any(not torch.equal(first[name], third[name]) for name in first)


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
@pytest.mark.parametrize("lora", [None, Lora(rank=4, dropout=0.3)], ids=["whole", "adapter"])
def test_resumed_equals_unbroken(tmp_path: Path, algorithm: str, lora: Lora | None) -> None:
    whole = tiny_distiller(tmp_path / "whole", algorithm, 12, lora=lora)
    whole.run()
    broken = tiny_distiller(tmp_path / "broken", algorithm, 12, lora=lora)
    broken._resume()
    for _ in range(3):  # six steps; the checkpoint of step 4 exists, step 6 is lost
        metrics, _ = broken.iterate()
        broken.recorder.metrics(metrics)
        if broken.step == 4:
            broken.save()
    resumed = tiny_distiller(tmp_path / "broken", algorithm, 12, lora=lora)
    resumed.run()
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rewards(tmp_path / "broken") == rewards(tmp_path / "whole")
