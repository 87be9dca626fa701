"""CUDA graphs of work whose shapes and addresses never change: the host launches hundreds of kernels at once."""

import logging
from collections.abc import Callable

import torch

log = logging.getLogger("yonder")


class Graphs:
    """Captures on one device; what graphs need while they run is one pool of memory, so they run one after another."""

    def __init__(self, device: torch.device, name: str) -> None:
        """`name`: of the work, for messages."""
        self.device = device
        self.name = name
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.able = True  # nothing in the work has refused to be captured

    def run(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do the work once, as it is; returns what does it again, captured where it can be.

        The first time is on the stream of the capture, so that all that libraries set up for a stream is there. Work
        that waits for the device, copies from the host's memory or allocates by other means cannot be captured.
        """
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)
        if not self.able:
            return work
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.able = False
            torch.cuda.synchronize(self.device)
            why = str(error).splitlines()[0]
            log.warning("%s cannot be captured as CUDA graphs (%s) and go on without, slower", self.name, why)
            return work
        return graph.replay
