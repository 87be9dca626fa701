"""Which decoder a policy samples with: the fastest of those that are sound."""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from yonder.errors import ModelError
from yonder.generation.decoding import Decoder
from yonder.generation.drawing import Apart, Sampling
from yonder.generation.dynamic import DynamicDecoder
from yonder.generation.soundness import Endless, nobody, refusal
from yonder.generation.static import StaticDecoder
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.recipe.models import Decoding

log = logging.getLogger("yonder")
WAITING = ("cuda",)  # kinds of devices that the host waits for at a token
TOKENS = 32  # of a race's longest rows
TURNS = 2  # of a race, after one that is not counted: shapes are captured and kernels chosen in it
AHEAD = 1.1  # so many times as fast the growing cache must be; what is about even is the same in every run


class Batch(NamedTuple):
    """What is asked for first, which tells how large batches will be."""

    prompts: Sequence[tuple[int, ...]]
    samples: int  # of each
    tokens: int  # of a completion, at most
    settings: Sampling


def pick_decoder(policy: Policy, encoder: PromptEncoder, asked: Decoding, first: Batch) -> Decoder:
    """dynamic: `DynamicDecoder`; static, compiled: `StaticDecoder`, if a trial shows that this model writes the same
    with it, else a ModelError; auto: on a CUDA GPU static where that holds, unless dynamic is faster there, dynamic
    elsewhere, where it is the faster one (docs/performance.md) and a resumed run must take the same way."""
    dynamic = DynamicDecoder(policy, encoder)
    if asked == "dynamic" or (asked == "auto" and policy.device.type not in WAITING):
        return dynamic
    static = StaticDecoder(policy, encoder, asked == "compiled")
    why = refusal(policy, encoder, static)
    if why is None:
        return static if asked != "auto" else faster(policy, dynamic, static, first)
    if asked != "auto":
        raise ModelError(f"policy.decoding: {asked} is not for this policy: {why}; set it to auto or dynamic")
    log.warning(
        "sampling waits for the host at every token, since a cache of fixed size is not for this policy: %s", why
    )
    return dynamic


def faster(policy: Policy, dynamic: Decoder, static: Decoder, first: Batch) -> Decoder:
    """The one that takes less time for the beginning of a batch; one after the other, since each may fill a GPU."""
    growing, fixed = (seconds(policy, one, first) for one in (dynamic, static))
    picked, name = (static, "fixed") if fixed <= AHEAD * growing else (dynamic, "growing")
    log.info(
        "sampling with a cache of %s size: the beginning of a batch took %.2f s with a fixed one, %.2f with a growing",
        name, fixed, growing,
    )  # fmt: skip
    return picked


def seconds(policy: Policy, decoder: Decoder, first: Batch) -> float:
    """That the decoder takes for the batch's first tokens, at best. A quarter of the rows ends at each quarter of
    them."""
    longest = min(TOKENS, first.tokens)
    numbers = torch.rand(
        len(first.prompts) * first.samples, longest, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).to(policy.device)
    taken: list[float] = []
    for _ in range(TURNS + 1):
        rows = [
            Endless(prompt, max(1, longest * (1 + i % 4) // 4))
            for prompt in range(len(first.prompts))
            for i in range(first.samples)
        ]
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        start = time.perf_counter()
        with torch.no_grad(), policy.mixed_precision():
            decoder.decode(first.prompts, rows, first.settings, Apart(numbers), nobody)
        taken.append(time.perf_counter() - start)
    decoder.rest()
    return min(taken[1:])
