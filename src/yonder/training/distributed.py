"""Several processes with the numbers of one; this file, `training.divided` and `training.meeting` alone know
`torch.distributed`.

Every process draws the same prompts, answers and scores its share of them (whole groups), gets all rollouts and scores
from the others, computes the same advantages, and makes its share of the forwards and backwards. Each term is divided
by its own count over the whole batch, so gradients are SUMMED over processes. That is why nothing here wraps the policy
in `DistributedDataParallel`: it averages, and expects one forward a backward; a sum after the last backward is all that
is needed. Process 0 alone writes files, except for parts of what is divided.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from yonder.errors import StorageError, YonderError
from yonder.models.padding import token_batches
from yonder.signals import StopRequest

T = TypeVar("T")
CPU = torch.device("cpu")
BUCKET = 1 << 24  # elements of gradients that are summed at once


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run as one of them sees it. Of a world of one every method gives back what it was given."""

    rank: int = 0
    size: int = 1
    sharded: bool = False  # weights, gradients and optimizer are divided over the processes (fsdp2)
    offload: bool = False  # ... and wait in CPU memory
    device: torch.device = CPU
    values: Any = None  # process group of plain values
    orders: Any = None  # process group without time limit, in which process 0 says what is next
    timeout_s: float = 0.0  # of the others

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @property
    def replicated(self) -> "World":
        """The same processes where each has the whole of what is trained."""
        return replace(self, sharded=False) if self.sharded else self

    def channel(self, longer_s: float) -> "World":
        """The same processes with a way of their own for plain values, for a thread beside the trainer; there they wait
        so much longer for each other. All make it together."""
        wait = timedelta(seconds=self.timeout_s + longer_s)
        return self if self.size == 1 else replace(self, values=dist.new_group(backend="gloo", timeout=wait))

    # --- plain values

    def gather(self, mine: list[T]) -> list[T]:
        """The lists of all processes, one after the other."""
        if self.size == 1:
            return mine
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine, group=self.values)
        return [item for part in found for item in part]

    def agreed(self, value: T) -> T:
        """The value of process 0."""
        return self._sent(value, self.values)

    def order(self, value: T) -> T:
        """As `agreed`, however long process 0 takes."""
        return self._sent(value, self.orders)

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return any(self.gather([flag]))

    def stopping(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; all of them then are."""
        if self.any(stop.asked):
            stop.asked = True  # a signal may come in between, so it is never taken back
            return True
        return False

    def add(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Sums over processes, in their order."""
        sums: dict[str, float] = {}
        for part in self.gather([dict(numbers)]):
            for name, value in part.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    def one_after_first(self, work: Callable[[], None]) -> None:
        """Process 0 does it and the others wait; where it fails all fail."""
        if self.size == 1:
            work()
            return
        error: Exception | None = None
        if self.first:
            try:
                work()
            except (OSError, RuntimeError, StorageError) as raised:
                error = raised
        said = self.agreed(None if error is None else str(error))
        if error is not None:
            raise error
        if said is not None:
            raise StorageError(f"process 0: {said}")

    def attempt(self, work: Callable[[], T]) -> list[T]:
        """What each process finds, in their order; a YonderError of one is raised in all."""
        if self.size == 1:
            return [work()]
        try:
            mine = (work(), None)
        except YonderError as error:
            mine = (None, error)
        found = cast(list[tuple[T, YonderError | None]], self.gather([mine]))
        for error in filter(None, [error for _, error in found]):
            raise error
        return [value for value, _ in found]

    # --- shares of the work

    def share(self, count: int, rank: int | None = None) -> range:
        """The part of `count` things in a row that is this process's."""
        here = self.rank if rank is None else rank
        return range(count * here // self.size, count * (here + 1) // self.size)

    def micro_batches(self, lengths: Sequence[int], budget: int) -> list[tuple[list[int], bool]]:
        """This process's rows in batches of at most `budget` tokens, and whether a batch counts.

        Where weights are divided all processes make the same number of forwards; a row that is repeated for that alone
        does not count.
        """
        if self.size == 1:
            return [(index, True) for index in token_batches(lengths, budget)]
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        shares = [order[rank :: self.size] for rank in range(self.size)]
        batches = [
            [[rows[i] for i in found] for found in token_batches([lengths[i] for i in rows], budget)] for rows in shares
        ]
        idle = (max(map(len, batches)) - len(batches[self.rank])) * self.sharded
        return [(index, True) for index in batches[self.rank]] + [(order[:1], False)] * idle

    def merge(self, rows: Iterable[int], tensors: Sequence[Tensor]) -> None:
        """Fill in, in place, the rows that others computed. `rows`: the first indices that this process did."""
        if self.size == 1:
            return
        mine = list(rows)
        for tensor in tensors:
            whole = torch.zeros_like(tensor)
            whole[mine] = tensor[mine]
            dist.all_reduce(whole)
            tensor.copy_(whole)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in float32; the same bits in each. Divided weights did so already."""
        if self.size == 1 or self.sharded:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        read = torch.tensor([parameter.grad is not None for parameter in trained], device=self.device).int()
        dist.all_reduce(read)
        for bucket in _buckets([p for p, count in zip(trained, read.tolist(), strict=True) if count]):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([grad.flatten().float() for grad in grads])
            dist.all_reduce(flat)
            for parameter, grad, total in zip(bucket, grads, flat.split([g.numel() for g in grads]), strict=True):
                parameter.grad = grad.copy_(total.view_as(grad))

    def _sent(self, value: T, group: Any) -> T:
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, group=group)
        return cast(T, box[0])


ALONE = World()


# --- weights that are divided over the processes: see `training.divided`


class Saved(NamedTuple):
    """A tensor in a checkpoint, of which every process wrote its part."""

    folder: Path
    name: str


def read_parts(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, divided or whole, from the safetensors files of a folder, however they are divided there; of each
    no more than its own part is read. Every process may do it alone."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*intent is to load in a single process")
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def placed_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A saved optimizer state as this optimizer's parameters are divided."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    waiting: dict[Path, dict[str, Tensor]] = {}

    def made(value: Any, parameter: Tensor) -> Any:
        if isinstance(value, Saved):
            tensor = torch.zeros_like(parameter, requires_grad=False)
            return waiting.setdefault(value.folder, {}).setdefault(value.name, tensor)
        return placed(value, parameter) if isinstance(value, Tensor) and value.dim() else value

    rows = {i: {name: made(x, parameters[i]) for name, x in row.items()} for i, row in state["state"].items()}
    for folder, tensors in waiting.items():
        read_parts(folder, tensors)
    return state | {"state": rows}


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Clip to the norm over all parameters, wherever they are; returns the norm before."""
    return float(full(nn.utils.clip_grad_norm_(list(parameters), limit)))


def in_parts(tensor: Tensor) -> bool:
    """Whether each process has a part of it."""
    return hasattr(tensor, "full_tensor")  # a DTensor, whose import takes long


def full(tensor: Tensor) -> Tensor:
    """The whole of it; all processes ask together."""
    return cast(Any, tensor).full_tensor() if in_parts(tensor) else tensor


def placed(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor divided as a parameter is."""
    if not in_parts(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    place = cast(Any, parameter)
    there = tensor.to(place.device_mesh.device_type)
    part = distribute_tensor(there, place.device_mesh, place.placements, src_data_rank=None)  # each has read the whole
    return part.to(parameter.device)


def _buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Cut into parts of about `BUCKET` elements, in order."""
    found: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if parameter.numel() > room:
            found.append([])
            room = BUCKET
        found[-1].append(parameter)
        room -= parameter.numel()
    return found
