"""How the processes of a run find each other, and part."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from yonder.errors import ModelError, TrainingError
from yonder.training.distributed import ALONE, World

WAIT = timedelta(days=30)  # for process 0 while it does what it does alone


@contextmanager
def begun(strategy: str, offload: bool, timeout_s: float, device: torch.device) -> Generator[World]:
    """The world that torchrun's environment variables describe; without them this process alone.

    The first three as `recipe.models.ParallelSettings` says; `device`: the policy's. Raises ModelError where a node has
    fewer GPUs than processes. A connection that is lost is one sentence, since the process that failed has said why.
    """
    size = int(os.environ["WORLD_SIZE"]) if "MASTER_ADDR" in os.environ and "RANK" in os.environ else 1
    sharded = strategy == "fsdp2"
    if size == 1 and not sharded:
        yield ALONE
        return
    rank, here = (int(os.environ[name]) if size > 1 else 0 for name in ("RANK", "LOCAL_RANK"))
    cuda = device.type == "cuda"
    if cuda and (":" in str(device) or here >= torch.cuda.device_count()):
        raise ModelError(
            f"process {here} of this node has no GPU of its own (it has {torch.cuda.device_count()}); start one a GPU "
            "(--nproc-per-node) and leave `policy.device` at auto"
        )
    if cuda:
        torch.cuda.set_device(here)
        device = torch.device("cuda", here)
    limit = timedelta(seconds=timeout_s)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=limit, **_meeting(rank, size, limit))
    groups = [dist.new_group(backend="gloo", timeout=wait) for wait in (limit, WAIT)]
    try:
        yield World(rank, size, sharded, offload, device, *groups, timeout_s=timeout_s)
        dist.destroy_process_group()
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "onnection")):
            raise
        first = str(error).splitlines()[0][:160]
        raise TrainingError(
            f"process {rank} lost the others ({first}); the one that failed says why, and the same command continues"
        ) from error


def _meeting(rank: int, size: int, limit: timedelta) -> dict[str, Any]:
    """Where the processes find each other. torchrun's agents keep one store over restarts, and what the processes
    before wrote there must not be read (seen in torch 2.13: the new ones wait for them forever)."""
    if size == 1:
        store: Any = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    elif os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        kept = dist.TCPStore(address, port, None, False, limit)  # pyright: ignore[reportPrivateImportUsage]
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt-{attempt}", kept)  # pyright: ignore[reportPrivateImportUsage]
    else:
        return {}
    return {"store": store, "rank": rank, "world_size": size}
