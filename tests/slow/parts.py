"""One of two processes in `test_distributed.py` that write a checkpoint in parts, where something goes wrong at the
second.

python -m torch.distributed.run --nproc-per-node 2 -m tests.slow.parts FAULT OUTPUT
"""

import gc
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from tests.slow.together import WIDE, learner, steps
from yonder.errors import StorageError
from yonder.training.checkpoint import CheckpointStore
from yonder.training.distributed import CPU
from yonder.training.meeting import begun


def die(*_: Any, **__: Any) -> Any:
    """As a machine that loses power."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(fault: str, output: str) -> None:
    """Write a checkpoint, and another with the fault; what is said of it goes into a file of each process."""
    torch.set_num_threads(1)
    folder = Path(output)
    with begun("fsdp2", False, 20.0, CPU) as world:
        made = learner(("grpo", WIDE, None), world, folder)
        store = CheckpointStore(folder / "checkpoints", 3, world=world)
        for step in (0, 1):
            steps(made, step, step + 1)
            if step == 1 and fault == "killed-first" and world.first:
                Path.rename = die  # type: ignore[method-assign]
            if step == 1 and not world.first:
                if fault == "full":
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
                if fault == "unseen":
                    store = CheckpointStore(folder / "another-disk", 3, world=world)
                if fault == "killed":
                    HuggingFaceStorageWriter.write_data = die  # type: ignore[method-assign]
            try:
                store.save(step + 1, made.policy, {"learner": made.state()}, None)
            except StorageError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
                (folder / f"said-{world.rank}").write_text(str(error))
            gc.collect()  # the frames of an error hold process groups, whose threads must end before Python does


if __name__ == "__main__":
    main(*sys.argv[1:])
