"""A decoder whose tensors never move: all that a step reads and writes has a fixed shape and place, so that on a CUDA
GPU steps are replayed as graphs, and the host looks at tokens some steps late instead of waiting for each.

Widths are rounded up, so that few shapes occur; a column of the cache that a row does not have is hidden by the mask.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from yonder.core.memory import drawing_bytes
from yonder.generation.cache import contents
from yonder.generation.decoding import Over, Row
from yonder.generation.drawing import Numbers, Sampling, choose
from yonder.generation.dynamic import prefill
from yonder.generation.graphs import Graphs, Watch
from yonder.generation.room import COLUMNS, ROWS, Part, Room, Size, rounded
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy

CHUNK = 8  # steps between two looks of the host
MOST_STEPS = 64  # kept: a graph is some megabytes
KEPT = 1 / 8  # of the GPU's memory: a room up to this stays while nothing is sampled
Work = Callable[[], None]


class _Seen(NamedTuple):
    """Tokens of some steps on their way to the host."""

    slots: list[int]  # the rows
    ids: Tensor  # (rows, steps)
    logprobs: Tensor
    event: Any  # that they are there; None: they are


class StaticDecoder:
    """A `decoding.Decoder`. Its cache, its graphs, and under autocast a copy of the weights in that type stay between
    calls where they are small. While it writes, no other thread may use the model: its weights are swapped for the
    copies.

    Rows of the room that are nobody's are written on with the others, from token 0 at position 0 with an empty cache.
    """

    longest_first = True  # so that the others fit into its room

    def __init__(self, policy: Policy, encoder: PromptEncoder, compiled: bool = False) -> None:
        """`compiled`: steps go through `torch.compile` first (minutes at the start, a C++ compiler)."""
        self.policy = policy
        self.encoder = encoder
        self._write = torch.compile(write, dynamic=True) if compiled else write
        cuda, name = policy.device.type == "cuda", f"sampling steps of {type(policy.model).__name__}"
        self.graphs = Graphs(policy.device, name) if cuda else None
        self._room: Room | None = None
        self._steps: OrderedDict[tuple[int, int, Sampling], Work] = OrderedDict()
        self._lower: dict[str, Tensor] = {}  # the trunk's factors in the type of autocast
        self._head: dict[str, Tensor] = {}  # the head's
        self._watched = False  # a step has been looked at for what cannot be captured
        self._places: tuple[Any, ...] = ()  # type of autocast and addresses of the weights that the steps read

    def decode(
        self, prompts: Sequence[tuple[int, ...]], rows: Sequence[Row], settings: Sampling, numbers: Numbers, over: Over
    ) -> None:
        """See `decoding.Decoder`. A row that is over is written on, and nobody reads that; rows leave when the next
        smaller size that steps come in holds the others."""
        with torch.cuda.device(self.policy.device) if self.graphs else nullcontext():
            self._renew_weights()
            room, done = self._begin(prompts, rows, settings, numbers), 1
            slots = list(range(len(rows)))  # the row that stands in each row of the room
            seen = self._pull(room, 0, 1, slots)
            while True:
                steps = min(CHUNK, max((rows[i].limit for i in slots if not rows[i].over), default=0) - done)
                if steps > 0:
                    self._advance(room, len(slots), steps, settings)
                    coming = self._pull(room, done, done + steps, slots)
                    done += steps
                else:
                    coming = None
                self._take(seen, rows, over)  # while the device works on
                left = [place for place, i in enumerate(slots) if not rows[i].over]
                if coming is None or not left:
                    return
                if rounded(len(left), ROWS) < rounded(len(slots), ROWS):
                    self._keep(room, left)
                    slots = [slots[place] for place in left]
                seen = coming

    def rest(self) -> None:
        """Give back what is larger than KEPT, of a GPU; the next call makes and captures it anew."""
        if self.graphs is None or self._room is None:
            return
        memory = torch.cuda.get_device_properties(self.policy.device).total_memory
        held = (*self._room.tensors, *self._lower.values(), *self._head.values())
        drawing = drawing_bytes(self._room.size.rows, self.policy.trunk.head.out_features)  # which graphs keep
        if sum(x.nbytes for x in held) + drawing > KEPT * memory:
            self._room = None
            for what in (self._steps, self._lower, self._head):
                what.clear()

    # --- rooms and weights

    def _renew_weights(self) -> None:
        """Copy what autocast would make of the weights at every step; steps that read other places are dropped."""
        kind, model = self.policy.autocast, self.policy.model
        places = (kind, *(parameter.data_ptr() for parameter in model.parameters()))
        if places != self._places:
            self._room = None
            for what in (self._steps, self._lower, self._head):
                what.clear()
            self._places = places
        if kind is None:
            return
        for name, weight in factors(self.policy.trunk.body):
            self._lower[name] = copied(weight, kind, self._lower.get(name))
        for name, weight in factors(self.policy.trunk.head):
            self._head[name] = copied(weight, kind, self._head.get(name))

    def _begin(
        self, prompts: Sequence[tuple[int, ...]], rows: Sequence[Row], settings: Sampling, numbers: Numbers
    ) -> Room:
        """Read the prompts and write every row's first token."""
        cache, logits, mask = prefill(self.policy, prompts)
        torch.clear_autocast_cache()  # steps have copies of their own
        width, most, count = mask.shape[1], max(row.limit for row in rows), len(rows)
        size = Size(rounded(count, ROWS), rounded(width + most, COLUMNS), most)
        of = torch.tensor([row.prompt for row in rows], device=mask.device)
        layers = contents(cache)
        room = self._room
        if room is None or not room.size.holds(size):
            both = None if room is None else room.size.joined(size)
            self._steps.clear()
            self._room = room = None  # before the next is made
            self._room = room = Room.made(both or size, layers, self.policy)
        # what is hidden counts nothing, but nothing times infinity is no number; and what nobody's rows hold must not
        # depend on earlier calls: a mixture of experts counts them
        room.clear(size)
        room.cache.fill(layers, of)
        room.seen[:count, :width] = mask.bool()[of]
        room.positions[:count, 0] = mask.sum(-1)[of]
        room.last[:count, 0] = room.positions[:count, 0] + torch.tensor([row.limit - 1 for row in rows]).to(of)
        room.numbers[:count, :most] = numbers.all(count, most) if settings.temperature is not None else 0.0
        ids, logprobs = choose(logits.float()[of], settings, lambda: room.numbers[:count, :1])
        room.tokens[:count, 0], room.ids[:count, 0], room.logprobs[:count, 0] = ids, ids, logprobs
        room.where.fill_(width)
        room.column.fill_(1)
        room.width = width
        return room

    def _keep(self, room: Room, places: list[int]) -> None:
        """Move these rows to the front."""
        index, count = to_device(places, self.policy.device), len(places)
        for pair in contents(room.cache):
            for x in pair:
                x[:count, :, : room.width] = x[index, :, : room.width]
        for x in (room.tokens, room.positions, room.last, room.seen, room.numbers):
            x[:count] = x[index]

    # --- steps

    def _advance(self, room: Room, count: int, steps: int, settings: Sampling) -> None:
        """So many tokens more of the first rows."""
        for _ in range(steps):
            room.width += 1
            key = rounded(count, ROWS), rounded(room.width, COLUMNS), settings
            step = self._steps.get(key)
            if step is not None:
                self._steps.move_to_end(key)
                step()
                continue
            again = self._first(room, *key)
            if again is not None:
                self._steps[key] = again
            if len(self._steps) > MOST_STEPS:
                self._steps.popitem(last=False)

    def _first(self, room: Room, rows: int, columns: int, settings: Sampling) -> Work | None:
        """A step of a shape that was not there before, done once; returns what does it again. The very first is only
        watched, since a capture that breaks off is hard to mend."""
        part = room.part(rows, columns)
        work = partial(self._write, self.policy, self._lower, self._head, part, settings)
        if self.graphs is None:
            work()
            return work
        if not self._watched:
            self._watched = True
            with Watch() as watch:
                write(self.policy, self._lower, self._head, part, settings)
            if watch.found:
                self.graphs.refuse(watch.found[0])
            return None
        return self.graphs.run(work)

    # --- what the host sees

    def _pull(self, room: Room, begin: int, end: int, slots: list[int]) -> _Seen:
        """Ask for the tokens of some steps, without waiting."""
        ids, logprobs = (to_host(x[: len(slots), begin:end]) for x in (room.ids, room.logprobs))
        event = None if self.graphs is None else torch.cuda.Event()
        if event is not None:
            event.record()
        return _Seen(list(slots), ids, logprobs, event)

    def _take(self, seen: _Seen, rows: Sequence[Row], over: Over) -> None:
        """Give the rows their tokens, step by step."""
        if seen.event is not None:
            seen.event.synchronize()
        for ids, logprobs in zip(seen.ids.t().tolist(), seen.logprobs.t().tolist(), strict=True):
            written = zip(seen.slots, ids, logprobs, strict=True)
            last = [rows[i] for i, token, logprob in written if rows[i].add(token, logprob, self.encoder)]
            if last:
                over(last)


def write(
    policy: Policy, lower: Mapping[str, Tensor], head: Mapping[str, Tensor], part: Part, settings: Sampling
) -> None:
    """Read every row's last token and write the next. Nothing here depends on a value, only on shapes.

    lower, head: weights of the trunk and of its head that stand for the policy's own.
    """
    device, kind = part.tokens.device, policy.autocast
    # not the cache of autocast: what it holds is gone when the next batch begins
    with torch.autocast(device.type, kind, cache_enabled=False) if kind else nullcontext():
        part.seen.index_fill_(1, part.where, True)
        shape = (part.seen.shape[0], 1, 1, part.seen.shape[1])
        mask = torch.zeros(shape, dtype=part.kind, device=device)
        mask.masked_fill_(~part.seen[:, None, None, :], float("-inf"))
        options = {"position_ids": part.positions, "past_key_values": part.cache, "use_cache": True}
        inputs = {"input_ids": part.tokens, "attention_mask": mask, **options}
        hidden = functional_call(policy.trunk.body, dict(lower), (), inputs)[0]
        logits = functional_call(policy.trunk.head, dict(head), (hidden[:, -1],))
    ids, logprobs = choose(logits.float(), settings, lambda: part.numbers.index_select(1, part.column))
    part.ids.index_copy_(1, part.column, ids.unsqueeze(-1))
    part.logprobs.index_copy_(1, part.column, logprobs.unsqueeze(-1))
    part.tokens.copy_(ids.unsqueeze(-1))
    part.positions.copy_(torch.minimum(part.positions + 1, part.last))  # rows that are over go on, but not beyond
    part.where.add_(1)
    part.column.add_(1)


def factors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """What autocast makes smaller in a product, by name."""
    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear | Conv1D)]
    found = [(f"{name}.{kind}", x) for name, part in layers for kind, x in part.named_parameters(recurse=False)]
    return [(name.lstrip("."), x) for name, x in found if x.dtype == torch.float32]


def copied(weight: Tensor, kind: torch.dtype, into: Tensor | None) -> Tensor:
    """In another type, at the same place as before."""
    return weight.detach().to(kind) if into is None else into.copy_(weight.detach())


def to_host(tensor: Tensor) -> Tensor:
    """A copy, which on a GPU is there when an event that is recorded after it has come."""
    if tensor.device.type != "cuda":
        return tensor.clone()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor.contiguous(), non_blocking=True)


def to_device(numbers: list[int], device: torch.device) -> Tensor:
    """Without waiting for what the device does."""
    found = torch.tensor(numbers)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found.to(device)
