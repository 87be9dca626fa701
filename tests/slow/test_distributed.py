"""Two processes learn what one learns from the same recorded rollouts, and go on from each other's checkpoints."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.slow.together import CASES, HALF, LORA, STEPS, title
from yonder.models.lora import Lora
from yonder.training.checkpoint import CheckpointStore, load_state

pytestmark = pytest.mark.slow
LOSS = 1e-5  # of losses and other metrics; measured: 2e-6
NORM = 5e-5  # of the gradient's norm, whose own float32 sum is off by 1.1e-5 in one process; measured: 1.6e-5
WEIGHTS = 5e-5  # after 12 updates that move weights by 6e-3; measured: 2.1e-5, where Adam magnifies gradients near 0


def together(folder: Path, processes: int, strategy: str, checkpoints: Path | None = None) -> dict[str, Any]:
    """What so many processes find."""
    folder.mkdir()
    where = [] if checkpoints is None else [str(checkpoints)]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d"]
    command = [sys.executable, *launch, "--rdzv-endpoint", "127.0.0.1:0", "-m", "tests.slow.together", strategy]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder), *where], capture_output=True, text=True, timeout=900, check=False, env=settings
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("together")
    made = {"one": together(folder / "one", 1, "auto")}
    made |= {name: together(folder / name, 2, name) for name in ("ddp", "fsdp2", "fsdp2-offload")}
    return made | {"folder": folder}  # type: ignore[dict-item]


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of any weight."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def moments(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of the optimizer's state, by parameter and name."""
    rows = state["optimizer"]["state"]
    return {f"{i} {name}": x for i, row in rows.items() for name, x in row.items()}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "fsdp2-offload"])
@pytest.mark.parametrize("case", map(title, CASES))
def test_two_processes_have_the_losses_and_weights_of_one(
    found: dict[str, dict[str, Any]], strategy: str, case: str
) -> None:
    one, two = found["one"][case], found[strategy][case]
    assert len(one["metrics"]) == len(two["metrics"]) == STEPS
    for ours, theirs in zip(one["metrics"], two["metrics"], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            allowed = NORM if name == "grad_norm" else LOSS
            assert theirs[name] == pytest.approx(ours[name], rel=allowed, abs=allowed), name
    assert any(row["policy/clip_fraction"] > 0 for row in one["metrics"])
    assert apart(one["half"], one["end"]) > 1e-3  # something was learned
    assert apart(one["half"], two["half"]) < WEIGHTS
    assert apart(one["end"], two["end"]) < WEIGHTS


@pytest.mark.parametrize("case", map(title, CASES))
def test_weights_that_wait_in_cpu_memory_change_no_bit(found: dict[str, dict[str, Any]], case: str) -> None:
    plain, waiting = found["fsdp2"][case], found["fsdp2-offload"][case]
    assert set(plain["offloaded"]) == {False}
    assert set(waiting["offloaded"]) == {True}  # the path of CPUOffloadPolicy, though a CPU has no other memory
    assert len(waiting["offloaded"]) == len(plain["offloaded"])
    assert waiting["metrics"] == plain["metrics"]
    assert apart(waiting["end"], plain["end"]) == 0.0


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_micro_batches_add_up_in_two_processes(
    found: dict[str, dict[str, Any]], algorithm: str, lora: Lora | None
) -> None:
    wide, narrow = (found["ddp"][title(case)] for case in CASES if (case[0], case[2]) == (algorithm, lora))
    assert apart(wide["half"], narrow["half"]) < WEIGHTS
    assert apart(wide["half"], narrow["half"]) > 0.0  # they did add up in another order


@pytest.mark.parametrize(("written", "strategy", "processes"), [
    ("ddp", "auto", 1), ("ddp", "ddp", 3), ("ddp", "fsdp2", 2), ("fsdp2", "auto", 1), ("fsdp2", "fsdp2", 3),
    ("one", "fsdp2", 2), ("ddp", "ddp", 2), ("fsdp2", "fsdp2", 2), ("fsdp2", "ddp", 3),
    ("fsdp2-offload", "auto", 1), ("ddp", "fsdp2-offload", 2), ("fsdp2-offload", "fsdp2-offload", 1),
])  # fmt: skip
def test_a_checkpoint_goes_on_in_any_number_of_processes(
    found: dict[str, dict[str, Any]], written: str, strategy: str, processes: int
) -> None:
    folder: Path = found["folder"]  # type: ignore[assignment]
    made = together(folder / f"{written}-{strategy}-{processes}", processes, strategy, folder / written)
    for case in map(title, CASES):
        before, after = found[written][case], made[case]
        assert apart(before["half"], after["half"]) == 0.0  # bit for bit what was saved
        assert moments(before["state"]).keys() == moments(after["state"]).keys() != set()
        assert apart(moments(before["state"]), moments(after["state"])) == 0.0
        for ours, theirs in zip(before["metrics"][HALF:], after["metrics"], strict=True):
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=LOSS, abs=LOSS)
        same = (written, processes) == (strategy, 2)  # as if it had never been stopped
        assert apart(before["end"], after["end"]) <= (0.0 if same else WEIGHTS)


def test_where_it_is_divided_each_process_writes_its_part_of_the_optimizer(
    found: dict[str, dict[str, Any]],
) -> None:
    folder: Path = found["folder"]  # type: ignore[assignment]
    for case in map(title, CASES):
        checkpoint = folder / "fsdp2" / case / "checkpoints/step-00000003"
        files = sorted((checkpoint / "parts").iterdir())
        assert [path.name[:11] for path in files] == ["shard-00001", "shard-00002"]
        mine, other = (sum(x.nbytes for x in load_file(path).values()) for path in files)
        whole = sum(x.nbytes for x in moments(found["fsdp2"][case]["state"]).values() if x.dim())
        assert mine + other == whole
        assert abs(mine - other) < 0.2 * whole
        assert (checkpoint / "trainer.pt").stat().st_size < 60_000
        assert not (folder / "ddp" / case / "checkpoints/step-00000003/parts").exists()


@pytest.mark.parametrize(("fault", "said"), [
    ("full", r"process 1 could not write its part of \S+ \(File too large\); free disk space"),
    ("unseen", r"process 1 does not see \S+, where each writes its part .* a disk that all nodes see"),
    ("killed", None), ("killed-first", None),
])  # fmt: skip
def test_a_checkpoint_that_one_process_cannot_write_leaves_the_one_before(
    tmp_path: Path, fault: str, said: str | None
) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command = [sys.executable, *launch, "--rdzv-endpoint", "127.0.0.1:0", "-m", "tests.slow.parts", fault]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False, env=settings
    )
    assert (done.returncode == 0) == (said is not None), done.stderr[-3000:]
    told = sorted(path.read_text() for path in tmp_path.glob("said-*"))
    assert len(told) == (0 if said is None else 2)
    assert all(re.search(str(said), text) for text in told), told
    store = CheckpointStore(tmp_path / "checkpoints", 3)
    assert [path.name for path in store.all()] == ["step-00000001"]
    assert store.latest() == store.path(1)
    assert "optimizer" in load_state(store.path(1))["learner"]
    left = [path.name for path in store.folder.iterdir() if path.name.startswith(".")]
    assert (left == []) == (said is not None)  # of a killed process, until the next one is written


def test_of_an_adapter_checkpoints_hold_it_alone_and_merge_it_into_the_weights(
    found: dict[str, dict[str, Any]],
) -> None:
    folder: Path = found["folder"]  # type: ignore[assignment]
    merged: dict[str, dict[str, torch.Tensor]] = {}
    case = next(title(case) for case in CASES if case[2])
    for name in ("one", "ddp", "fsdp2"):
        policy = folder / name / case / "checkpoints/step-00000003/policy"
        assert {p.name for p in policy.glob("*.safetensors")} == {"adapter_model.safetensors"}
        merged[name] = load_file(folder / name / case / "merged/step-00000003/policy/model.safetensors")
        half, layer = found[name][case]["half"], "model.layers.1.mlp.up_proj"
        base, a, b = (half[f"model.{layer}.{w}.weight"] for w in ("base_layer", "lora_A.default", "lora_B.default"))
        assert torch.equal(merged[name][f"{layer}.weight"], base + 2.0 * (b @ a))  # alpha 8, rank 4
        assert bool(b.any())
    assert apart(merged["one"], merged["ddp"]) < WEIGHTS
    assert apart(merged["one"], merged["fsdp2"]) < WEIGHTS
