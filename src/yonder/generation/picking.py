"""Which decoder a policy samples with."""

import logging
import math
from collections.abc import Sequence

import torch

from yonder.errors import ModelError
from yonder.generation.decoding import Decoder, Row
from yonder.generation.drawing import Apart, Sampling
from yonder.generation.dynamic import DynamicDecoder, prefill
from yonder.generation.static import StaticDecoder
from yonder.models.encoding import PromptEncoder
from yonder.models.padding import right_pad
from yonder.models.policy import Policy
from yonder.models.sharing import windowed
from yonder.recipe.models import Decoding

log = logging.getLogger("yonder")
KERNELS = ("sdpa", "eager")  # of attention, that take any mask
PROMPTS = ((1, 2, 3, 4, 5), (6, 7, 8), (9, 10, 11, 12))  # of the trial
TOKENS, EACH = 12, 2
APART = 0.1  # nats: log-probs that differ by less are the same


def pick_decoder(policy: Policy, encoder: PromptEncoder, asked: Decoding) -> Decoder:
    """dynamic: `DynamicDecoder`; static, compiled: `StaticDecoder`, if a trial shows that this model writes the same
    with it, else a ModelError; auto: static on a CUDA GPU where that holds, dynamic elsewhere."""
    dynamic = DynamicDecoder(policy, encoder)
    if asked == "dynamic" or (asked == "auto" and policy.device.type != "cuda"):
        return dynamic
    static = StaticDecoder(policy, encoder, asked == "compiled")
    why = refusal(policy, encoder, static)
    if why is None:
        return static
    if asked != "auto":
        raise ModelError(f"policy.decoding: {asked} is not for this policy: {why}; set it to auto or dynamic")
    log.warning(
        "sampling waits for the host at every token, since a cache of fixed size is not for this policy: %s", why
    )
    return dynamic


def refusal(policy: Policy, encoder: PromptEncoder, static: Decoder) -> str | None:
    """Why the model does not write with a cache of fixed size what the trainer says it writes; None if it does.

    Windows of attention are longer than what is tried, so the configuration is asked about them.
    """
    name, kernel = type(policy.model).__name__, policy.trunk.attention
    if policy.home is not None:
        return "its weights move between devices"
    if windowed(policy.trunk):
        return f"{name} attends to a window of the last tokens"
    if kernel not in KERNELS:
        return f"attention by {kernel} takes no mask of its own"
    try:
        with torch.no_grad():
            gap = _gap(policy, encoder.context, static)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        return f"{name} does not run with it ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None if gap <= APART else f"{name} gives other log-probs with it, {gap:.2f} nats a token apart"


def _gap(policy: Policy, context: int, decoder: Decoder) -> float:
    """Largest difference of a row's log-probs, the decoder's and the trainer's, nats a token."""
    tokens = max(2, min(TOKENS, context - max(map(len, PROMPTS))))
    rows = [Row(prompt, tokens) for prompt in range(len(PROMPTS)) for _ in range(EACH)]
    numbers = torch.rand(len(rows), tokens, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with policy.mixed_precision():
        spread = max(1e-3, float(prefill(policy, PROMPTS)[1].float().std()))  # at this temperature nothing is flat
        decoder.decode(PROMPTS, rows, Sampling(spread), Apart(numbers.to(policy.device)), _nothing)
    ids, mask = right_pad([[*PROMPTS[row.prompt], *row.ids] for row in rows], policy.device)
    written, _ = right_pad([[1] * len(row.ids) for row in rows], policy.device)
    starts = torch.tensor([len(PROMPTS[row.prompt]) for row in rows], device=policy.device)
    theirs = policy(ids, mask, starts, written, spread).logprobs.tolist()
    gaps = [
        [abs(a - b) for a, b in zip(row.logprobs, found, strict=False)] for row, found in zip(rows, theirs, strict=True)
    ]
    worst = max(sum(gap) / len(gap) for gap in gaps)
    return worst if math.isfinite(worst) else math.inf


def _nothing(rows: Sequence[Row]) -> None:
    """Nobody is told."""
