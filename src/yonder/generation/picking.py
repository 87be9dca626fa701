"""Which decoder a policy samples with: the fastest of those that are sound."""

import importlib
import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from yonder.errors import ModelError
from yonder.generation.decoding import Decoder
from yonder.generation.drawing import Apart, Sampling
from yonder.generation.dynamic import DynamicDecoder
from yonder.generation.soundness import FAULTS, Endless, nobody, refusal
from yonder.generation.static import StaticDecoder
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.recipe.models import Decoding

log = logging.getLogger("yonder")
WAITING = ("cuda",)  # kinds of devices that the host waits for at a token
TOKENS = 32  # of a race's longest rows
TURNS = 3  # of a race, after one that is not counted: shapes are captured and kernels chosen in it
AHEAD = 1.1  # so many times as fast the growing cache must be; what is about even is the same in every run
MORE = 4  # times the rows of a race: batches so much larger are raced anew


def require_compiler(asked: Decoding) -> None:
    """ModelError where steps shall be compiled and no C++ compiler is here."""
    if asked != "compiled":
        return
    builder = importlib.import_module("torch._inductor.cpp_builder")
    try:
        builder.get_cpp_compiler()
    except RuntimeError as error:
        raise ModelError(
            "policy.decoding: compiled needs a C++ compiler, and none is here; install g++, or set it to static"
        ) from error


class Batch(NamedTuple):
    """What is asked for."""

    prompts: Sequence[tuple[int, ...]]
    limits: Sequence[int]  # most tokens of a completion, of each
    samples: int  # of each
    settings: Sampling

    @property
    def rows(self) -> int:
        """Completions."""
        return len(self.prompts) * self.samples


class Picker:
    """The decoder of one sampler.

    dynamic: `DynamicDecoder`; static, compiled: `StaticDecoder`, if a trial shows that this model writes the same with
    it, else a ModelError; auto: on a CUDA GPU static where that holds, unless dynamic is faster there for the first
    batch, or for one of many more rows; dynamic elsewhere, where it is the faster one (docs/performance.md) and a
    resumed run must take the same way.
    """

    def __init__(self, policy: Policy, encoder: PromptEncoder, asked: Decoding) -> None:
        self.policy = policy
        self.encoder = encoder
        self.asked: Decoding = asked
        self.picked: Decoder | None = None
        self._dynamic = DynamicDecoder(policy, encoder)
        self._raced: int | None = None  # rows of the largest race, 0 before the first; None: there is none

    def decoder(self, batch: Batch) -> Decoder:
        """For this batch and those like it."""
        if self.picked is None:
            self.picked = self._sound()
        if self._raced is not None and batch.rows >= MORE * self._raced:
            static = self.picked if isinstance(self.picked, StaticDecoder) else self._static()
            self._raced, self.picked = max(1, batch.rows), faster(self.policy, self._dynamic, static, batch)
        return self.picked

    def _static(self) -> StaticDecoder:
        return StaticDecoder(self.policy, self.encoder, self.asked == "compiled")

    def _sound(self) -> Decoder:
        if self.asked == "dynamic" or (self.asked == "auto" and self.policy.device.type not in WAITING):
            return self._dynamic
        require_compiler(self.asked)
        if self.asked == "compiled":
            log.warning("compiling the steps of sampling, which takes up to minutes")
        static = self._static()
        why = refusal(self.policy, self.encoder, static)
        if why is None:
            self._raced = 0 if self.asked == "auto" else None
            return static
        if self.asked != "auto":
            raise ModelError(f"policy.decoding: {self.asked} is not for this policy: {why}; set it to auto or dynamic")
        log.warning(
            "sampling waits for the host at every token, since a cache of fixed size is not for this policy: %s", why
        )
        return self._dynamic


def faster(policy: Policy, dynamic: Decoder, static: Decoder, batch: Batch) -> Decoder:
    """The one that takes less time for the beginning of a batch; one after the other, since each may fill a GPU."""
    growing, fixed = (seconds(policy, one, batch) for one in (dynamic, static))
    picked, name = (static, "fixed") if fixed <= AHEAD * growing and fixed < math.inf else (dynamic, "growing")
    log.warning(
        "sampling with a cache of %s size: the beginning of a batch took %.2f s with a fixed one, %.2f with a growing",
        name, fixed, growing,
    )  # fmt: skip
    return picked


def seconds(policy: Policy, decoder: Decoder, batch: Batch) -> float:
    """That the decoder takes for the batch's first tokens, at best; infinite where it fails. What it captures is not
    counted: it is kept, or made once a rollout. A quarter of the rows ends at each quarter of the tokens."""
    taken: list[float] = []
    numbers = torch.rand(batch.rows, TOKENS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        for _ in range(TURNS + 1):
            rows = [
                Endless(i // batch.samples, max(1, min(TOKENS * (1 + i % 4) // 4, batch.limits[i // batch.samples])))
                for i in range(batch.rows)
            ]
            drawn = Apart(numbers.to(policy.device))
            if policy.device.type == "cuda":
                torch.cuda.synchronize(policy.device)
            start = time.perf_counter()
            with torch.no_grad(), policy.mixed_precision():
                decoder.decode(batch.prompts, rows, batch.settings, drawn, nobody)
            taken.append(time.perf_counter() - start)
    except FAULTS as error:  # one that fails here would in the run
        log.warning(
            "%s fails, so the other way to sample is taken: %s",
            type(decoder).__name__,
            str(error).splitlines()[0] if str(error) else type(error).__name__,
        )
        return math.inf
    finally:
        decoder.rest()
    return min(taken[1:])
