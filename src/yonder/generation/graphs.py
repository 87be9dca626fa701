"""CUDA graphs of work whose shapes and addresses never change: the host launches hundreds of kernels at once."""

import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger("yonder")
FREE = 2**31  # bytes that a capture may need; where fewer are free, what torch keeps unused is given back before
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")


class Graphs:
    """Captures on one device, the current one; what graphs need while they run is one pool of memory, so they run one
    after another."""

    def __init__(self, device: torch.device, name: str) -> None:
        """`name`: of the work, for messages."""
        self.device = device
        self.name = name
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.able = True  # nothing in the work has refused to be captured

    def refuse(self, why: str) -> None:
        """From now on work is done as it is."""
        self.able = False
        log.warning("%s cannot be captured as CUDA graphs (%s) and go on without, slower", self.name, why)

    def run(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do the work once, as it is; returns what does it again, captured where it can be.

        The first time is on the stream of the capture, so that all that libraries set up for a stream is there.
        """
        if not self.able:
            work()
            return work
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)
        return self._captured(work)

    def _captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What replays the work, or the work itself where it waits for the device, copies from the host's memory, or
        allocates by other means."""
        torch.cuda.synchronize(self.device)
        if torch.cuda.mem_get_info(self.device)[0] < FREE:
            torch.cuda.empty_cache()
        graph, open_ = torch.cuda.CUDAGraph(), False
        try:
            with torch.cuda.stream(self.stream):
                # another thread may use the device meanwhile
                graph.capture_begin(self.pool, capture_error_mode="thread_local")
                open_ = True
                try:
                    work()
                finally:
                    graph.capture_end()
                    open_ = False
        except RuntimeError as error:
            torch.cuda.synchronize(self.device)
            if open_:
                self._leave_pool()
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self.refuse(str(error).splitlines()[0])
            return work
        return graph.replay

    def _leave_pool(self) -> None:
        """A capture that broke off has not told the allocator that it is over, which would go on as if within it."""
        native, index = importlib.import_module("torch._C"), torch.cuda.current_device()
        native._cuda_endAllocateToPool(index, self.pool)
        native._cuda_releasePool(index, self.pool)


class Watch(TorchDispatchMode):
    """Notes, in this thread, what cannot be captured: questions for a value, and copies from another device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").partition(".")[0]
        result = func(*args, **(kwargs or {}))
        if name in WAITS:
            self.found.append(f"{name} asks for a value")
        elif name in ("_to_copy", "copy_") and isinstance(result, torch.Tensor):
            source = args[1] if name == "copy_" else args[0]
            if isinstance(source, torch.Tensor) and source.device != result.device:
                self.found.append(f"{name} copies from {source.device}")
        return result
